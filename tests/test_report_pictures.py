"""Grids: every image where it belongs, pixel for pixel; alpha over a checkerboard; files whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.report import pictures
from jobs.report.pictures import Tiling


def images(count: int, channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, height, width), np.uint8)


@given(
    count=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    columns=st.integers(1, 5),
    gap=st.integers(0, 3),
    scale=st.integers(1, 3),
)
def test_every_image_of_a_grid_is_found_again(count: int, channels: int, columns: int, gap: int, scale: int) -> None:
    given_NCHW = images(count, channels, 5, 4)
    picture = pictures.grid(given_NCHW, columns, gap=gap, scale=scale)
    tiling = Tiling.of(picture)
    assert tiling == Tiling(count, columns, 4 * scale, 5 * scale, gap * scale)
    assert tiling is not None
    for index in range(count):
        tile = np.asarray(picture.crop(tiling.box(index)))
        assert (tile[..., -1] == 255).all()
        expected = given_NCHW[index].transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
        assert np.array_equal(tile[..., :-1], expected)


def test_between_images_a_grid_is_transparent() -> None:
    picture = np.asarray(pictures.grid(images(4, 3, 8, 8), 2, gap=2, scale=1))
    assert picture.shape == (18, 18, 4)
    assert (picture[8:10] == 0).all()
    assert (picture[:, 8:10] == 0).all()


def test_small_images_are_enlarged_until_they_can_be_seen() -> None:
    assert [pictures.default_scale(width) for width in (4, 28, 32, 63, 64, 256)] == [16, 3, 2, 2, 1, 1]


def test_transparent_pixels_show_a_checkerboard_and_opaque_ones_themselves() -> None:
    image = np.full((1, 4, 16, 16), 200, np.uint8)
    image[0, 3] = 255
    image[0, 3, :, :8] = 0
    seen = np.asarray(pictures.grid(image, 1, gap=0, scale=1))[..., :3]
    assert (seen[:, 8:] == 200).all()
    assert set(np.unique(seen[:, :8])) == {pictures.CHECKER_DARK, pictures.CHECKER_LIGHT}


def test_half_transparent_pixels_are_mixed() -> None:
    image = np.zeros((1, 4, 8, 8), np.uint8)
    image[0, 3] = 128
    seen = np.asarray(pictures.grid(image, 1, gap=0, scale=1))[0, 0, 0]
    assert seen == round(pictures.CHECKER_LIGHT * (1 - 128 / 255))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 2, 4, 4), np.uint8), np.zeros((0, 3, 4, 4), np.uint8)],
)
def test_what_is_no_batch_of_images_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[N, 1\|3\|4, H, W\]"):
        pictures.grid(wrong)


def test_signed_images_become_bytes() -> None:
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0], np.float32)
    assert pictures.from_signed(values).tolist() == [0, 0, 128, 255, 255]


@given(scale=st.integers(1, 5), width=st.integers(2, 7), height=st.integers(2, 7))
def test_reduce_undoes_enlarge(scale: int, width: int, height: int) -> None:
    # neighbouring pixels differ, so that nothing is an enlargement by itself
    rows, columns = np.mgrid[:height, :width]
    small = Image.fromarray(((rows * 7 + columns * 13) % 251).astype(np.uint8), "L")
    reduced, found = pictures.reduce(pictures.enlarge(small, scale))
    assert found == scale
    assert np.array_equal(np.asarray(reduced), np.asarray(small))


def test_the_tiling_travels_in_the_file(tmp_path: Path) -> None:
    picture = pictures.grid(images(6, 1, 28, 28), 3)
    pictures.write_png(tmp_path / "grid.png", picture)
    with Image.open(tmp_path / "grid.png") as read:
        assert Tiling.of(read) == Tiling.of(picture)
        assert np.array_equal(np.asarray(read), np.asarray(picture))
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "{}",
        '{"count": 4, "columns": 0, "width": 4, "height": 4, "gap": 0}',
        '{"count": 0, "columns": 1, "width": 4, "height": 4, "gap": 0}',
        '{"count": 400, "columns": 2, "width": 4, "height": 4, "gap": 0}',
        '{"count": 4, "columns": 2, "width": -4, "height": -4, "gap": 0}',
        '{"count": 1, "columns": 2, "width": "x", "height": 4, "gap": 0}',
    ],
)
def test_a_tiling_that_does_not_fit_its_picture_is_none(said: str) -> None:
    picture = Image.new("L", (8, 8))
    picture.info[pictures.TILING] = said
    assert Tiling.of(picture) is None
    assert pictures.tiles(picture) == []


def test_through_time_has_a_row_an_image_and_a_column_a_grid() -> None:
    batches = [images(4, 3, 8, 8, seed) for seed in range(3)]
    sheet = pictures.through_time([pictures.grid(batch, 2, gap=1, scale=1) for batch in batches], 2)
    assert sheet is not None
    assert sheet.size == (3 * 8 + 2, 2 * 8 + 1)
    for column, batch in enumerate(batches):
        for row in range(2):
            tile = np.asarray(sheet.crop((column * 9, row * 9, column * 9 + 8, row * 9 + 8)))[..., :3]
            assert np.array_equal(tile, batch[row].transpose(1, 2, 0))


def test_grids_of_different_shape_make_no_strip() -> None:
    one, other = pictures.grid(images(4, 3, 8, 8), 2), pictures.grid(images(4, 3, 8, 8), 4)
    assert pictures.through_time([one, other], 2) is None


def test_a_sheet_of_neighbours_has_the_sample_first() -> None:
    sample, neighbours = images(2, 1, 8, 8), images(6, 1, 8, 8, 1).reshape(2, 3, 1, 8, 8)
    rows = pictures.tiles(pictures.neighbour_sheet(sample, neighbours))
    assert [len(row) for row in rows] == [4, 4]
    assert np.array_equal(np.asarray(rows[1][0])[..., 0], sample[1, 0])
    assert np.array_equal(np.asarray(rows[1][3])[..., 0], neighbours[1, 2, 0])


def test_real_stands_left_of_generated() -> None:
    real, generated = np.full((4, 1, 64, 64), 10, np.uint8), np.full((4, 1, 64, 64), 240, np.uint8)
    sheet = np.asarray(pictures.real_beside_generated(real, generated, columns=2))
    assert (sheet[0, 0, 0], sheet[0, -1, 0]) == (10, 240)
