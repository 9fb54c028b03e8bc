"""An entry of the cache is whole or not there, whoever is killed and however many build it."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jobs.data import cache as cache_module
from jobs.data.cache import EntryWriter, open_or_build
from jobs.data.dataset import Skipped
from jobs.errors import DataError

IMAGES = np.arange(5 * 3 * 4 * 4, dtype=np.uint8).reshape(5, 3, 4, 4)


class Builder:
    """Fills an entry with IMAGES and counts how often it had to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, directory: Path) -> None:
        self.calls += 1
        with EntryWriter(directory, (3, 4, 4)) as writer:
            writer.add(IMAGES[:2])
            writer.add(IMAGES[2:])
            skipped = (Skipped("bad.png", "torn"),)
            writer.finish(labels_N=np.arange(5), modes_N=None, class_names=("x",) * 5, skipped=skipped)


def test_what_was_written_comes_back_mapped(tmp_path: Path) -> None:
    build = Builder()
    for _ in range(2):
        entry = open_or_build(tmp_path, "key", build)
        np.testing.assert_array_equal(entry.images_NCHW, IMAGES)
        assert isinstance(entry.images_NCHW, np.memmap) and not entry.images_NCHW.flags.writeable
        np.testing.assert_array_equal(entry.labels_N, np.arange(5))
        assert entry.modes_N is None and entry.class_names == ("x",) * 5
        assert entry.skipped == (Skipped("bad.png", "torn"),)
    assert build.calls == 1


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "garbage"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, name: str, damage: str) -> None:
    build = Builder()
    open_or_build(tmp_path, "key", build)
    path = tmp_path / "key" / name
    match damage:
        case "cut":
            os.truncate(path, path.stat().st_size - 1)
        case "emptied":
            path.write_bytes(b"")
        case "removed":
            path.unlink()
        case "garbage":
            path.write_bytes(b"\x80\x04N." * 100)  # a pickle, for whoever would load it
    np.testing.assert_array_equal(open_or_build(tmp_path, "key", build).images_NCHW, IMAGES)
    assert build.calls == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.lock"]


def test_an_entry_of_another_shape_is_built_again(tmp_path: Path) -> None:
    build = Builder()
    open_or_build(tmp_path, "key", build)
    np.save(tmp_path / "key" / "images.npy", np.zeros((5, 3, 4, 5), np.uint8))
    np.testing.assert_array_equal(open_or_build(tmp_path, "key", build).images_NCHW, IMAGES)


def test_a_file_in_the_place_of_an_entry_gives_way(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("what is this?")
    np.testing.assert_array_equal(open_or_build(tmp_path, "key", Builder()).images_NCHW, IMAGES)


def test_an_open_map_survives_a_rebuild(tmp_path: Path) -> None:
    before = open_or_build(tmp_path, "key", Builder())
    (tmp_path / "key" / "manifest.json").unlink()
    open_or_build(tmp_path, "key", Builder())
    np.testing.assert_array_equal(before.images_NCHW, IMAGES)


def test_a_builder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(directory: Path) -> None:
        (directory / "images.npy").write_bytes(b"half")
        raise DataError("all of them are damaged")

    with pytest.raises(DataError, match="all of them"):
        open_or_build(tmp_path, "key", build)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


def test_many_at_once_build_once(tmp_path: Path) -> None:
    build = Builder()
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda _: open_or_build(tmp_path, "key", build), range(8)))
    assert build.calls == 1
    for entry in entries:
        np.testing.assert_array_equal(entry.images_NCHW, IMAGES)


def test_without_locks_both_build_and_both_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(cache_module.fcntl, "flock", no_locks)
    slow = Builder()

    def build(directory: Path) -> None:
        time.sleep(0.05)
        slow(directory)

    with ThreadPoolExecutor(4) as pool:
        for entry in pool.map(lambda _: open_or_build(tmp_path, "key", build), range(4)):
            np.testing.assert_array_equal(entry.images_NCHW, IMAGES)
    assert slow.calls > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.lock"]


def test_a_killed_builder_leaves_no_entry_and_its_rest_is_swept(tmp_path: Path) -> None:
    program = """
        import sys, time
        from pathlib import Path
        import numpy as np
        from jobs.data.cache import EntryWriter, open_or_build

        def build(directory):
            with EntryWriter(directory, (3, 4, 4)) as writer:
                writer.add(np.zeros((100, 3, 4, 4), np.uint8))
                print("building", flush=True)
                time.sleep(60)

        open_or_build(Path(sys.argv[1]), "key", build)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None and child.stdout.readline() == "building\n"
        child.send_signal(signal.SIGKILL)
    assert list(tmp_path.glob("key.aside-*")) and not (tmp_path / "key").exists()
    build = Builder()
    np.testing.assert_array_equal(open_or_build(tmp_path, "key", build).images_NCHW, IMAGES)
    assert build.calls == 1, "the lock of the dead is no obstacle"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.lock"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tempfile.mkdtemp

    def on_a_full_disk(**where: object) -> str:
        directory = real(**where)
        (Path(directory) / "images.npy").symlink_to("/dev/full")
        return directory

    monkeypatch.setattr(cache_module.tempfile, "mkdtemp", on_a_full_disk)
    with pytest.raises(DataError, match="the disk is full") as error:
        open_or_build(tmp_path, "key", Builder())
    assert error.value.hint is not None and "data.max_images" in error.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


def test_a_cache_that_is_no_directory_is_explained(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        open_or_build(tmp_path / "cache", "key", Builder())


def test_an_entry_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        assert synced[-1] == tmp_path.name or not (tmp_path / "key").exists()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    open_or_build(tmp_path, "key", Builder())
    assert synced[:3] == ["images.npy", "labels.npy", "manifest.json"]
    assert synced[-1] == tmp_path.name and len(synced) == 5
