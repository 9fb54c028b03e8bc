"""A zip in the StyleGAN format, and zips made to do harm."""

import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.data.archive import check_entries
from jobs.errors import DataError
from jobs.spec.data import ImageZip
from tests.data_files import encoded, opened, picture, png, pngs, write_zip


def section(**more: Any) -> ImageZip:
    return ImageZip(**{"path": "set.zip", "resolution": 8, **more})


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_stylegan_zip_with_labels(tmp_path: Path, method: int) -> None:
    entries = pngs(25)
    labels = [[name, index % 3] for index, name in enumerate(entries)]
    write_zip(tmp_path / "set.zip", entries, labels[::-1], method)
    dataset = opened(section(labels=True), tmp_path)
    assert dataset.name == "set" and dataset.labels_N.tolist() == [index % 3 for index in range(25)]
    for index, image in enumerate(dataset.images_NCHW):
        np.testing.assert_array_equal(image, np.asarray(picture(index)).transpose(2, 0, 1))


def test_labels_null(tmp_path: Path) -> None:
    write_zip(tmp_path / "set.zip", pngs(3), None)
    assert opened(section(), tmp_path).labels_N is None
    with pytest.raises(DataError, match="holds null"):
        opened(section(labels=True), tmp_path)


def test_sub_folders_of_a_zip_are_not_taken_for_classes(tmp_path: Path) -> None:
    write_zip(tmp_path / "set.zip", pngs(25))
    with pytest.raises(DataError, match=r"has no dataset\.json"):
        opened(section(labels=True), tmp_path)


def test_a_zipped_folder_has_everything_one_level_down(tmp_path: Path) -> None:
    table = b'{"labels": [["a.png", 5], ["b/c.png", 6]]}'
    write_zip(tmp_path / "set.zip", {"top/a.png": png(0), "top/b/c.png": png(1), "top/dataset.json": table})
    assert opened(section(labels=True), tmp_path).labels_N.tolist() == [5, 6]


def test_what_a_mac_leaves_is_not_looked_at(tmp_path: Path) -> None:
    entries = {"a.png": png(0), "__MACOSX/._a.png": b"no", "x/.DS_Store.png": b"no", "readme.txt": b"no", "d.png/": b""}
    write_zip(tmp_path / "set.zip", entries)
    dataset = opened(section(), tmp_path)
    assert len(dataset) == 1 and dataset.skipped == ()


@pytest.mark.parametrize(
    "name",
    [
        "/x.png",
        "../x.png",
        "a/../../x.png",
        "C:\\x.png",
        "C:x.png",
        "\\\\host\\x.png",
        "..\\x.png",
        "a/..",
        "/dataset.json",
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "set.zip", {"fine.png": png(0), name: png(1)})
    with pytest.raises(DataError, match=r"refused: its entry .* has (an absolute name|a name that leads out)") as error:
        opened(section(), tmp_path)
    assert repr(name) in str(error.value) and error.value.exit_code == 65
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["a..b.png", "...png/a.png", "-.png", "a b/ü.png", "con.png"])
def test_a_name_that_only_looks_strange_is_fine(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "set.zip", {"a.png": png(0), name: png(1)})
    assert len(opened(section(), tmp_path)) == 2 - name.startswith(".")


def test_a_zero_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"aXb.png": png(0)})
    path.write_bytes(path.read_bytes().replace(b"aXb.png", b"a\0b.png"))
    with pytest.raises(DataError, match="zero byte"):
        opened(section(), tmp_path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", png(0))
        link = zipfile.ZipInfo("b.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match=r"'b\.png' is a symbolic link"):
        opened(section(), tmp_path)


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", png(0))
        archive.writestr("a.png", png(1))
    with pytest.raises(DataError, match=r"'a\.png' stands there twice"):
        opened(section(), tmp_path)


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    write_zip(tmp_path / "set.zip", {"a.png": png(0), "b.png": bytes(20 << 20)}, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"'b\.png' unpacks \d+ bytes to 20971520, as a decompression bomb does"):
        opened(section(), tmp_path)


def test_a_bomb_is_refused_even_where_it_is_no_image(tmp_path: Path) -> None:
    write_zip(tmp_path / "set.zip", {"a.png": png(0), "dataset.json": bytes(20 << 20)}, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="decompression bomb"):
        opened(section(), tmp_path)


def test_a_bomb_is_refused_by_its_size(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("a.png")
    entry.file_size = entry.compress_size = (256 << 20) + 1
    with pytest.raises(DataError, match="more than 256 MiB"):
        check_entries([entry], 1 << 30, "data.path")


def test_a_bomb_is_refused_by_what_its_entries_are_together(tmp_path: Path) -> None:
    entries = {f"{index}.png": bytes(1 << 20) for index in range(30)}
    write_zip(tmp_path / "set.zip", entries, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="would unpack to 31457280, as a bomb does"):
        opened(section(), tmp_path)


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    data = encoded(picture(0, 100, 100))
    path = write_zip(tmp_path / "set.zip", {"a.png": data, "b.png": data})
    raw = bytearray(path.read_bytes())
    directory = raw.index(b"PK\x01\x02")
    second = raw.index(b"PK\x01\x02", directory + 4)
    raw[second + 42 : second + 46] = struct.pack("<I", 0)  # the second entry begins where the first does
    del raw[len(data) + 60 : directory - 10]  # and its own bytes are gone
    shift = len(path.read_bytes()) - len(raw)
    end = raw.rindex(b"PK\x05\x06")
    raw[end + 16 : end + 20] = struct.pack("<I", directory - shift)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="overlap"):
        opened(section(), tmp_path)


def test_other_methods_are_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / "set.zip", {"a.png": png(0)}, method=zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="another method than store or deflate"):
        opened(section(), tmp_path)


def test_an_image_bomb_inside_is_skipped_by_name(tmp_path: Path) -> None:
    write_zip(tmp_path / "set.zip", {**pngs(120), "bomb.png": encoded(Image.new("1", (20_000, 20_000)))})
    (skipped,) = opened(section(), tmp_path).skipped
    assert skipped.name == "bomb.png" and "pixels" in skipped.reason


def test_a_damaged_entry_is_skipped_by_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", pngs(150), [[name, 1] for name in pngs(150)])
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"00007/img00000077.png") + 60] ^= 0xFF
    path.write_bytes(raw)
    dataset = opened(section(labels=True), tmp_path)
    assert [name for name, _ in dataset.skipped] == ["00007/img00000077.png"]
    assert "damaged" in dataset.skipped[0].reason
    assert len(dataset) == len(dataset.labels_N) == 149


@pytest.mark.parametrize("part", [0, 10, 2000])
def test_a_zip_cut_short_is_refused(tmp_path: Path, part: int) -> None:
    path = write_zip(tmp_path / "set.zip", pngs(20))
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(DataError, match="is not a zip, or is cut short"):
        opened(section(), tmp_path)


def test_an_encrypted_entry_is_a_damaged_image(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", pngs(1))
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="encrypted"):
        opened(section(), tmp_path)


def test_missing_empty_and_not_a_zip(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at"):
        opened(section(), tmp_path)
    write_zip(tmp_path / "set.zip", {"a.txt": b""})
    with pytest.raises(DataError, match="holds no images"):
        opened(section(), tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="read with kind: folder"):
        opened(section(path="folder"), tmp_path)


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_whatever_is_damaged_the_answer_is_a_set_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes
) -> None:
    tmp_path = tmp_path_factory.mktemp("zip")
    path = write_zip(tmp_path / "set.zip", pngs(3), [[name, 1] for name in pngs(3)], zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    start = at % (len(raw) - 4)
    raw[start : start + len(damage)] = damage
    path.write_bytes(raw)
    try:
        assert len(opened(section(labels=True), tmp_path)) in (2, 3)
    except DataError as error:
        assert str(error)
