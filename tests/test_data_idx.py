"""IDX files, whole and not."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.data.decode import decode
from jobs.data.idx import fit_images, lanczos, read_idx
from jobs.errors import DataError
from jobs.spec.data import IdxFiles
from tests.data_files import encoded, opened

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)


def idx_bytes(array: np.ndarray, code: int = 8) -> bytes:
    sizes = b"".join(size.to_bytes(4) for size in array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.tobytes()


def section(**more: Any) -> IdxFiles:
    return IdxFiles(**{"images": "images", "resolution": 32, "channels": "grey", "fit": "pad", **more})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "images").write_bytes(idx_bytes(IMAGES))
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx_bytes(IMAGES)))
    (tmp_path / "labels").write_bytes(idx_bytes(np.array([0, 1, 2, 3, 4, 5, 9], np.uint8)))
    return tmp_path


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_small_images_are_padded_with_zeros(files: Path, name: str) -> None:
    dataset = opened(section(images=name, labels=True, labels_file="labels"), files)
    assert dataset.name == "images"
    np.testing.assert_array_equal(dataset.images_NCHW, np.pad(IMAGES, ((0, 0), (2, 2), (2, 2)))[:, None])
    assert dataset.labels_N.tolist() == [0, 1, 2, 3, 4, 5, 9] and len(dataset.class_names) == 10


def test_rgb_repeats_grey_and_rgba_is_opaque(files: Path) -> None:
    grey = opened(section(), files).images_NCHW
    rgb = opened(section(channels="rgb"), files).images_NCHW
    rgba = opened(section(channels="rgba"), files).images_NCHW
    np.testing.assert_array_equal(rgb, np.repeat(grey, 3, axis=1))
    np.testing.assert_array_equal(rgba[:, :3], rgb)
    assert (rgba[:, 3] == 255).all()


def test_a_subset_is_spread_evenly(files: Path) -> None:
    dataset = opened(section(max_images=3, labels=True, labels_file="labels"), files)
    assert dataset.labels_N.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(dataset.images_NCHW[1, 0, 2:-2, 2:-2], IMAGES[2])


@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([4, 16, 32]), st.sampled_from(["crop", "pad", "stretch"])
)
def test_scaling_is_that_of_other_images(width: int, height: int, resolution: int, fit: Any) -> None:
    y, x = np.mgrid[:height, :width]  # smooth: Pillow cuts overshoot between its two passes, we do after both
    image = (128 + 60 * np.sin(x / 5) * np.cos(y / 7)).astype(np.uint8)
    ours = fit_images(image[None], section(resolution=resolution, fit=fit))[0]
    theirs = decode(encoded(Image.fromarray(image)), resolution, "grey", fit)[0]
    assert abs(ours.astype(int) - theirs.astype(int)).max() <= 2, "Pillow rounds between its passes, too"


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([4, 16, 32]))
def test_scaling_is_exact(width: int, height: int, resolution: int) -> None:
    noise = np.random.default_rng(width).integers(0, 256, (height, width), dtype=np.uint8)
    ours = fit_images(noise[None], section(resolution=resolution, fit="stretch"))[0]
    floats = Image.fromarray(noise.astype(np.float32)).resize((resolution, resolution), Image.Resampling.LANCZOS)
    assert abs(ours - np.asarray(floats).clip(0, 255)).max() <= 0.51


@given(st.integers(1, 60), st.integers(1, 60))
def test_weights_are_those_of_pillow(size: int, to: int) -> None:
    weights = lanczos(size, to, 0, size)
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-5)
    line = np.random.default_rng(size).random((1, size), dtype=np.float32)
    theirs = Image.fromarray(line).resize((to, 1), Image.Resampling.LANCZOS)
    np.testing.assert_allclose(line @ weights, np.asarray(theirs), atol=1e-4)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (idx_bytes(IMAGES)[:-1], "is cut short: 7 x 28 x 28 needs 5488 bytes"),
        (idx_bytes(IMAGES)[:16], "is cut short"),
        (idx_bytes(IMAGES) + b"x", "longer than its header says"),
        (idx_bytes(IMAGES)[:15], "does not begin as an IDX file"),
        (b"", "it has nothing"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "00 00 08 03 was expected, it has 89 50 4e 47"),
        (idx_bytes(IMAGES, code=0x0D), "does not begin"),
        (idx_bytes(IMAGES[0]), "does not begin"),
        (idx_bytes(IMAGES[:0]), "nothing that can be used"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "nothing that can be used"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes, says: str, pack: Any) -> None:
    (tmp_path / "images").write_bytes(pack(data))
    with pytest.raises(DataError, match=says):
        read_idx(tmp_path / "images", rank=3)


def test_a_gzip_cut_short_is_refused(files: Path) -> None:
    whole = (files / "images.gz").read_bytes()
    for part in (2, 12, len(whole) // 2, len(whole) - 9):
        (files / "images.gz").write_bytes(whole[:part])
        with pytest.raises(DataError):
            read_idx(files / "images.gz", rank=3)


def test_a_gzip_bomb_is_refused_by_its_promise_and_by_its_bytes(tmp_path: Path) -> None:
    huge = bytes([0, 0, 8, 3]) + (1 << 20).to_bytes(4) + (200).to_bytes(4) * 2
    (tmp_path / "promise").write_bytes(gzip.compress(huge))
    with pytest.raises(DataError, match="unpack it, and give the plain file"):
        read_idx(tmp_path / "promise", rank=3)
    (tmp_path / "bytes").write_bytes(gzip.compress(idx_bytes(IMAGES) + bytes(100 << 20)))
    with pytest.raises(DataError, match="longer than its header says"):
        read_idx(tmp_path / "bytes", rank=3)


def test_labels_of_another_part_are_refused(files: Path) -> None:
    (files / "labels").write_bytes(idx_bytes(np.zeros(10, np.uint8)))
    with pytest.raises(DataError, match="10 labels for 7 images"):
        opened(section(labels=True, labels_file="labels"), files)


def test_a_missing_file_names_its_field(files: Path) -> None:
    with pytest.raises(DataError, match=r"data\.images: there is nothing"):
        opened(section(images="none"), files)
    with pytest.raises(DataError, match=r"data\.labels_file: there is nothing"):
        opened(section(labels=True, labels_file="none"), files)
    (files / "folder").mkdir()
    with pytest.raises(DataError, match="is not a file"):
        opened(section(images="folder"), files)
