"""One function from a section to a dataset: what it keeps, what it forgives, what it does not."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.data import Roots, open_dataset
from jobs.errors import DataError, SpecError
from jobs.spec.data import ImageFolder, ImageZip, ModeGrid
from tests.data_files import opened, png, pngs, write_folder, write_zip

SMALL = ModeGrid(images=50, shapes=2, hues=2, positions=2)


def folder(**more: Any) -> ImageFolder:
    return ImageFolder(**{"path": "set", "resolution": 8, **more})


def entries(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").glob("*") if path.is_dir() and path.name != "digests")


def test_the_second_time_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "set", {**pngs(200), "z.png": b"damaged"})
    first = opened(folder(), tmp_path)
    monkeypatch.setattr("jobs.data.source.decode", lambda *_: pytest.fail("decoded again"))
    second = opened(folder(), tmp_path)
    np.testing.assert_array_equal(first.images_NCHW, second.images_NCHW)
    assert (first.digest, first.skipped, first.name) == (second.digest, second.skipped, second.name)
    assert len(entries(tmp_path)) == 1


def test_the_digest_says_what_is_seen(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", pngs(3))
    write_folder(tmp_path / "moved", pngs(3))
    same = [folder(), folder(path="moved"), folder(mirror=True)]
    other = [
        folder(resolution=16),
        folder(channels="grey"),
        folder(fit="pad"),
        folder(max_images=2),
        folder(labels=True),
    ]
    digests = [opened(section, tmp_path).digest for section in same + other]
    assert len(set(digests[:3])) == 1
    assert len(set(digests[2:])) == 6
    assert all(len(digest) == 64 for digest in digests)


def test_new_bytes_are_seen_at_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", pngs(3))
    before = opened(folder(), tmp_path)
    (tmp_path / "set" / "00000" / "img00000001.png").write_bytes(png(99))
    after = opened(folder(), tmp_path)
    assert before.digest != after.digest
    assert not np.array_equal(before.images_NCHW, after.images_NCHW)


@pytest.mark.parametrize(("damaged", "of"), [(0, 10), (1, 100), (3, 300)])
def test_up_to_one_percent_is_skipped_and_named(tmp_path: Path, damaged: int, of: int) -> None:
    names = list(pngs(of))
    write_folder(tmp_path / "set", {**pngs(of), **{name: png(0)[:40] for name in names[5 : 5 + damaged]}})
    dataset = opened(folder(labels=True), tmp_path)
    assert [name for name, _ in dataset.skipped] == names[5 : 5 + damaged]
    assert len(dataset) == len(dataset.labels_N) == of - damaged
    assert all("truncated" in reason or reason for _, reason in dataset.skipped)


@pytest.mark.parametrize(("damaged", "of"), [(1, 1), (1, 99), (4, 300), (300, 300)])
def test_more_than_one_percent_stops_the_job_and_names_examples(tmp_path: Path, damaged: int, of: int) -> None:
    names = list(pngs(of))
    write_folder(tmp_path / "set", {**pngs(of), **dict.fromkeys(names[:damaged], b"damaged")})
    before = threading.enumerate()  # of another test's set that is still open, say
    with pytest.raises(DataError, match=rf"more than 1 % of the {of} images.*{names[0]}: is none of PNG") as error:
        opened(folder(), tmp_path)
    assert error.value.exit_code == 65
    assert entries(tmp_path) == []
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert not [thread for thread in left if thread.name.startswith("gankiln")]


def test_images_keep_their_labels_when_others_are_skipped(tmp_path: Path) -> None:
    good = pngs(150)
    labels = [[name, index] for index, name in enumerate(good)]
    good[labels[70][0]] = b"damaged"
    write_zip(tmp_path / "set.zip", good, labels)
    dataset = opened(ImageZip(path="set.zip", resolution=8, labels=True), tmp_path)
    assert dataset.labels_N.tolist() == [index for index in range(150) if index != 70]


def test_a_subset_keeps_every_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {f"{name}/{index}.png": png(index) for name in "abcde" for index in range(10)})
    dataset = opened(folder(labels=True, max_images=10), tmp_path)
    assert np.bincount(dataset.labels_N).tolist() == [2] * 5


def test_progress_reaches_the_end_and_never_falls(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", pngs(300))
    seen: list[tuple[int, int]] = []
    opened(folder(), tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (300, 300) and len(seen) > 3
    assert seen == sorted(seen) and {total for _, total in seen} == {300}
    seen.clear()
    opened(folder(), tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [], "nothing to wait for"


def test_decoding_in_threads_keeps_the_order(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {f"{index:04d}.png": png(index, 4, 4) for index in range(500)})
    dataset = opened(folder(resolution=4), tmp_path)
    expected = [np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8) for index in range(500)]
    np.testing.assert_array_equal(dataset.images_NCHW, np.array(expected).transpose(0, 3, 1, 2))


def test_a_submitted_spec_cannot_read_the_worker(tmp_path: Path) -> None:
    write_folder(tmp_path / "worker" / "set", pngs(3))
    write_zip(tmp_path / "worker" / "set.zip", pngs(3))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "worker" / "set")
    roots = Roots(tmp_path / "data", (tmp_path / "data",))
    for section in (
        folder(path="../worker/set"),
        folder(path=str(tmp_path / "worker" / "set")),
        folder(path="link"),
        ImageZip(path="../worker/set.zip", resolution=8),
    ):
        with pytest.raises(SpecError, match="leads outside") as error:
            open_dataset(section, cache_dir=tmp_path / "cache", roots=roots)
        assert error.value.exit_code == 64


def test_a_generated_set_knows_its_modes(tmp_path: Path) -> None:
    dataset = opened(SMALL, tmp_path)
    assert dataset.name == "modegrid" and dataset.images_NCHW.shape == (50, 3, 32, 32)
    assert dataset.labels_N is None and dataset.class_names == () and dataset.modes_N.max() == 7
    labelled = opened(SMALL.model_copy(update={"labels": True}), tmp_path)
    np.testing.assert_array_equal(labelled.labels_N, labelled.modes_N)
    assert len(labelled.class_names) == 8 and labelled.class_names[0] == "corner, hue 0, middle"


def test_a_job_killed_while_decoding_starts_clean(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", pngs(400))
    program = """
        import os, signal, sys
        from pathlib import Path
        from jobs.data import Roots, open_dataset
        from jobs.spec.data import ImageFolder

        def die(done, total):
            if done > total // 2:
                os.kill(os.getpid(), signal.SIGKILL)

        here = Path(sys.argv[1])
        open_dataset(ImageFolder(path="set", resolution=8), cache_dir=here / "cache", roots=Roots(here), progress=die)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=False)
    assert done.returncode == -9
    assert [name for name in entries(tmp_path) if ".aside-" not in name] == []
    assert len(opened(folder(), tmp_path)) == 400
    assert len(entries(tmp_path)) == 1, "what the dead one left is gone"


def test_processes_at_once_share_one_entry(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", pngs(300))
    program = """
        import sys
        from pathlib import Path
        from jobs.data import Roots, open_dataset
        from jobs.spec.data import ImageFolder

        here, decoded = Path(sys.argv[1]), []
        section = ImageFolder(path="set", resolution=8)
        dataset = open_dataset(
            section, cache_dir=here / "cache", roots=Roots(here), progress=lambda done, total: decoded.append(done)
        )
        print(len(dataset), int(dataset.images_NCHW.sum()), bool(decoded))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [child.communicate()[0].split() for child in children]
    assert len({(count, total) for count, total, _ in said}) == 1 and said[0][0] == "300"
    assert [decoded for *_, decoded in said].count("True") == 1
    assert len(entries(tmp_path)) == 1
