"""A directory of images, and what strangers may leave in one."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.data import Roots, open_dataset
from jobs.errors import DataError, SpecError
from jobs.spec.data import ImageFolder
from tests.data_files import opened, picture, png, pngs, write_folder


def section(**more: Any) -> ImageFolder:
    return ImageFolder(**{"path": "set", "resolution": 8, **more})


def test_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"b.png": png(1), "a/z.png": png(0), "c.PNG": png(2)})
    dataset = opened(section(), tmp_path)
    assert dataset.name == "set" and len(dataset) == 3 and dataset.labels_N is None
    for index, image in enumerate(dataset.images_NCHW):
        np.testing.assert_array_equal(image, np.asarray(picture(index)).transpose(2, 0, 1))


def test_what_is_not_an_image_is_not_looked_at(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "set",
        {"a.png": png(0), "notes.txt": b"", ".hidden.png": b"", "__MACOSX/a.png": b"", ".git/b.png": b""},
    )
    os.mkfifo(tmp_path / "set" / "pipe.png")
    dataset = opened(section(), tmp_path)
    assert len(dataset) == 1 and dataset.skipped == ()


def test_labels_are_the_sub_folders(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"dog/1.png": png(0), "cat/deep/1.png": png(1), "cat/2.png": png(2)})
    dataset = opened(section(labels=True), tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels_N.tolist() == [0, 0, 1]


def test_labels_of_a_dataset_json_come_first(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "set",
        {"x/1.png": png(0), "y/2.png": png(1), "dataset.json": b'{"labels": [["y/2.png", 3], ["x/1.png", 2]]}'},
    )
    assert opened(section(labels=True), tmp_path).labels_N.tolist() == [2, 3]


def test_a_dataset_json_without_labels_is_no_reason_to_guess(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"00000/1.png": png(0), "dataset.json": b'{"labels": null}'})
    with pytest.raises(DataError, match="holds null"):
        opened(section(labels=True), tmp_path)
    assert len(opened(section(), tmp_path)) == 1


def test_an_image_in_no_sub_folder_has_no_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"cat/1.png": png(0), "stray.png": png(1)})
    with pytest.raises(DataError, match=r"'stray\.png' is in no sub-folder"):
        opened(section(labels=True), tmp_path)


def test_missing_empty_and_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at 'set'"):
        opened(section(), tmp_path)
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        opened(section(), tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="is not a directory"):
        opened(section(path="file"), tmp_path)


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"a.png": png(0)})
    write_folder(tmp_path / "elsewhere", {"b.png": png(1)})
    (tmp_path / "set" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set")
    assert len(opened(section(), tmp_path)) == 2


@pytest.mark.parametrize("target", ["secret.png", "."])
def test_a_link_inside_does_not_lead_out_of_the_roots(tmp_path: Path, target: str) -> None:
    write_folder(tmp_path / "set", {"a.png": png(0)})
    write_folder(tmp_path / "worker", {"secret.png": png(1)})
    (tmp_path / "set" / "x.png").symlink_to((tmp_path / "worker" / target).resolve())
    with pytest.raises(SpecError, match=r"'x\.png' in 'set' is a link that leads outside"):
        open_dataset(section(), cache_dir=tmp_path / "cache", roots=Roots(tmp_path, (tmp_path / "set",)))


def test_a_strange_name_is_safe_to_print(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", pngs(200))
    (tmp_path / "set" / "z\x1b[31m\udcff.png").write_bytes(b"damaged")
    (skipped,) = opened(section(), tmp_path).skipped
    assert skipped.name == r"z\x1b[31m\udcff.png"
    skipped.name.encode()


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", pngs(100))
    with (tmp_path / "set" / "huge.png").open("wb") as file:
        file.truncate((256 << 20) + 1)
    (skipped,) = opened(section(), tmp_path).skipped
    assert skipped == ("huge.png", "larger than 256 MiB")
