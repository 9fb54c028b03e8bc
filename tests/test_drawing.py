"""Whole drawings from checkpoints: part after part, the same for a seed."""

import json
from itertools import pairwise

import numpy as np
import pytest

from jobs.data import Roots, open_data
from jobs.drawing import Artist, best_of, sheet
from jobs.errors import DataError
from jobs.training.state import Progress, save, snapshot
from tests.test_recipe_sketch import DATA, built, job, train


def checkpoint(folder, part, resolution=16, **recipe):
    made = job(data={**DATA, "part": part, "resolution": resolution}, **recipe)
    birds = open_data(made.recipe.data, cache_dir=folder / "cache", roots=Roots(folder))
    trained = built(made, birds)
    train(trained, birds, 0, 8)
    metadata = {"spec": json.dumps(made.model_dump(mode="json")), "labels": "[]", "images": "8"}
    return save(folder / part / "checkpoints", snapshot(Progress(images=8), trained, metadata), keep=1).path


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return [checkpoint(folder, "head", selector={"channels": 4}), checkpoint(folder, "eye")]


def test_the_eye_comes_first_and_the_selector_says_what_next(checkpoints):
    artist = Artist(checkpoints)
    drawings = [artist.draw(seed) for seed in range(12)]
    assert all([step.part for step in steps][:2] == ["initial", "eye"] for steps in drawings)
    ends = {steps[-1].part for steps in drawings}
    assert ends == {"eye", "head"}  # an untrained selector stops now and then
    for steps in drawings:
        for before, after in pairwise(steps):
            np.testing.assert_array_equal(after.ink_RR, np.maximum(before.ink_RR, after.new_RR))


def test_a_drawing_is_a_function_of_its_seed(checkpoints):
    one, other = (Artist(checkpoints).draw(3) for _ in range(2))
    assert all(np.array_equal(a.ink_RR, b.ink_RR) for a, b in zip(one, other, strict=True))


def test_without_a_selector_parts_follow_their_list(checkpoints):
    artist = Artist(checkpoints[1:])
    assert [step.part for step in artist.draw(0)] == ["initial", "eye"]


def test_a_sheet_has_a_row_a_drawing_and_ends_with_the_whole(checkpoints):
    artist = Artist(checkpoints)
    drawings = [artist.draw(seed) for seed in range(6)]
    tiles, columns = sheet(drawings)
    assert tiles.shape == (6 * columns, 1, 16, 16) and columns == max(map(len, drawings)) + 1
    np.testing.assert_array_equal(tiles[columns - 1, 0], 255 - drawings[0][-1].ink_RR)


def test_the_best_eye_is_large_and_near():
    given = np.zeros((8, 8), np.uint8)
    given[4, 4] = 255
    small, far, good, blank = np.zeros((4, 8, 8), np.uint8)
    small[3, 4] = 255
    far[0, :4] = 255
    good[3, 3:6] = 255
    assert best_of(np.stack([small, far, blank, good]), given) == 3


def test_generators_that_do_not_fit_together_are_refused(checkpoints, tmp_path):
    with pytest.raises(DataError, match="a second generator of the part 'eye'"):
        Artist([checkpoints[1], checkpoints[1]])
    smaller = checkpoint(tmp_path, "beak", resolution=8)
    with pytest.raises(DataError, match="of another resolution"):
        Artist([checkpoints[0], smaller])
