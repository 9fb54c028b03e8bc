"""A generated set as a zip that gankiln, StyleGAN's tools and an image viewer can read."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jobs.data import make_zip
from jobs.data.modegrid import generate
from jobs.errors import DataError
from jobs.spec.data import ImageZip, ModeGrid
from tests.data_files import opened

SMALL = ModeGrid(images=1050, shapes=2, hues=3, positions=2)


def test_what_was_made_reads_back_as_it_was(tmp_path: Path) -> None:
    path = make_zip(SMALL, tmp_path / "out")
    assert path == tmp_path / "out" / "modegrid.zip"
    images_NCHW, mode_N = generate(SMALL)
    dataset = opened(ImageZip(path="out/modegrid.zip", resolution=32, labels=True), tmp_path)
    np.testing.assert_array_equal(dataset.images_NCHW, images_NCHW)
    np.testing.assert_array_equal(dataset.labels_N, mode_N)
    assert dataset.class_names[:2] == ("corner, hue 0, middle", "corner, hue 0, top left")


def test_names_are_those_of_the_stylegan_tool(tmp_path: Path) -> None:
    with zipfile.ZipFile(make_zip(SMALL, tmp_path / "set.zip")) as archive:
        names = archive.namelist()
        labels = json.loads(archive.read("dataset.json"))["labels"]
    assert names[0] == "00000/img00000000.png" and names[1049] == "00001/img00001049.png"
    assert [name for name, _ in labels] == names[:-1]


def test_the_same_section_makes_the_same_bytes(tmp_path: Path) -> None:
    assert make_zip(SMALL, tmp_path / "a.zip").read_bytes() == make_zip(SMALL, tmp_path / "b.zip").read_bytes()


def test_what_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        make_zip(SMALL, tmp_path / "out")
