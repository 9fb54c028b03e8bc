"""Checkpoints wait on the local disk in bounded space, whatever the run does with its own copies."""

import pytest

from service.spool import Spool


def _checkpoint(tmp_path, images, size_bytes=100):
    folder = tmp_path / "run/checkpoints" / f"{images:09d}"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(bytes(size_bytes - 2))
    (folder / "MANIFEST.json").write_text("{}")
    return folder


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", 250)


def test_a_checkpoint_survives_its_deletion_by_the_run_and_takes_no_space_of_its_own(spool, tmp_path):
    folder = _checkpoint(tmp_path, 10)
    spooled = spool.take(folder)
    assert (spooled.folder / "state.pt").stat().st_ino == (folder / "state.pt").stat().st_ino
    for file in folder.iterdir():
        file.unlink()
    assert (spool.next().folder / "state.pt").read_bytes() == bytes(98)


def test_of_those_that_wait_only_the_newest_stays(spool, tmp_path):
    for images in (10, 20, 30):
        spool.take(_checkpoint(tmp_path, images))
    assert spool.used_bytes == 100
    assert spool.next().images == 30
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["000000030"]


def test_one_in_work_and_one_that_waits_are_kept_and_no_more(spool, tmp_path):
    spool.take(_checkpoint(tmp_path, 10))
    in_work = spool.next()
    spool.take(_checkpoint(tmp_path, 20))
    spool.take(_checkpoint(tmp_path, 30))
    assert spool.used_bytes == 200
    assert in_work.folder.exists()
    spool.done(in_work)
    assert spool.next().images == 30
    assert spool.used_bytes == 100


def test_a_newer_one_goes_before_one_whose_upload_did_not_succeed(spool, tmp_path):
    spool.take(_checkpoint(tmp_path, 10))
    stuck = spool.next()
    assert spool.next() == stuck  # tried again
    spool.take(_checkpoint(tmp_path, 20))
    assert spool.next().images == 20
    assert not stuck.folder.exists()


def test_what_does_not_fit_is_left_out_and_the_bound_holds(spool, tmp_path):
    assert spool.take(_checkpoint(tmp_path, 10, 300)) is None
    spool.take(_checkpoint(tmp_path, 20, 200))
    spool.next()
    assert spool.take(_checkpoint(tmp_path, 30, 100)) is None
    assert spool.used_bytes == 200


def test_without_hard_links_it_copies(spool, tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    spooled = spool.take(_checkpoint(tmp_path, 10))
    assert (spooled.folder / "state.pt").read_bytes() == bytes(98)


def test_clear(spool, tmp_path):
    spool.take(_checkpoint(tmp_path, 10))
    spool.clear()
    assert spool.used_bytes == 0 and spool.next() is None and not (tmp_path / "spool").exists()
