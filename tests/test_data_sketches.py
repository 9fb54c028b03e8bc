"""Drawings: generated birds with exact truths, strokes and rasters from files, and what a batch shows of them."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from jobs.data import Roots, open_data
from jobs.data.dataset import Shown
from jobs.data.draws import uniform
from jobs.data.part_stacks import make_stacks
from jobs.data.stream import shown
from jobs.data.strokes import CANVAS, Drawing, rasterise, stack
from jobs.data.toybirds import EYE, HEAD, INITIAL, hatch
from jobs.errors import DataError
from jobs.evaluation import geometry
from jobs.spec.sketch_data import BIRD_PARTS, TOYBIRD_PARTS, Augment, DoodlerStrokes, PartStacks, QuickDraw, ToyBirds


def birds(**changes):
    return ToyBirds(**{"part": "eye", "resolution": 16, "drawings": 40, **changes})


def opened(section, folder):
    return open_data(section, cache_dir=folder / "cache", roots=Roots(folder))


@pytest.fixture(scope="module")
def flock(tmp_path_factory):
    return opened(birds(partial="others"), tmp_path_factory.mktemp("birds"))


# --- draws


def test_draws_belong_to_positions_and_not_to_batches():
    whole = uniform(7, 1, np.arange(100), 3)
    np.testing.assert_array_equal(whole[40:60], uniform(7, 1, np.arange(40, 60), 3))
    assert not np.array_equal(whole, uniform(8, 1, np.arange(100), 3))
    assert not np.array_equal(whole, uniform(7, 2, np.arange(100), 3))


def test_draws_are_uniform():
    values = uniform(0, 0, np.arange(20_000), 2)
    assert values.min() >= 0 and values.max() < 1
    counts, _ = np.histogram(values, 20, (0, 1))
    assert np.abs(counts - 2000).max() < 5 * 2000**0.5
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.03


# --- ToyBirds


def test_the_same_seed_hatches_the_same_birds():
    one, other = hatch(birds()), hatch(birds())
    assert all(
        np.array_equal(a, b)
        for x, y in zip(one.drawings, other.drawings, strict=True)
        for part in x.strokes
        for a, b in zip(x.strokes[part], y.strokes[part], strict=True)
    )
    assert not np.array_equal(one.truth.eye_N2, hatch(birds(seed=1)).truth.eye_N2)


def test_birds_are_whole_on_the_canvas_and_begin_with_the_initial_stroke():
    for drawing in hatch(birds(drawings=200)).drawings:
        points = np.concatenate([stroke for strokes in drawing.strokes.values() for stroke in strokes])
        assert points.min() >= 0 and points.max() <= CANVAS
        assert drawing.order[0] == INITIAL and sorted(drawing.order) == list(range(len(TOYBIRD_PARTS)))
    assert all(drawing.order[1] == EYE for drawing in hatch(birds(order="eye_first")).drawings)


def test_the_truth_is_true():
    truth = hatch(birds(drawings=300)).truth
    to_eye = np.linalg.norm(truth.eye_N2 - truth.head_N3[:, :2], axis=1)
    assert (to_eye < truth.head_N3[:, 2]).all()
    forward = (truth.head_N3[:, 0] - truth.body_N5[:, 0]) * truth.facing_N
    assert (forward > 0).mean() > 0.95 and 0.4 < (truth.facing_N > 0).mean() < 0.6


@pytest.mark.parametrize("resolution", [16, 32, 64])
@pytest.mark.parametrize("part", ["eye", "head", "beak", "legs"])
def test_real_parts_are_where_they_belong_and_those_of_others_are_not(part, resolution):
    flock = hatch(birds(drawings=100))
    number = TOYBIRD_PARTS.index(part)
    rasters = [rasterise(drawing.strokes[number], resolution, 24.0) / 255 for drawing in flock.drawings]
    ink = geometry.drawn(np.stack(rasters), np.stack(rasters))
    _, _, score = geometry.RATES[number]
    own, others = score(ink, flock.truth, 12.0).mean(), score(np.roll(ink, 1, axis=0), flock.truth, 12.0).mean()
    if part == "legs":  # a distance
        assert own < 0.005 and others > 0.02
    else:
        assert own == 1.0 and others < 0.6


# --- what a batch shows


def test_batches_cut_otherwise_show_the_same(flock):
    whole = flock.gather(shown(len(flock), 3, 30, 62, mirror=True))
    halves = [flock.gather(shown(len(flock), 3, start, start + 16, mirror=True)) for start in (30, 46)]
    for field in whole._fields:
        torch.testing.assert_close(getattr(whole, field), torch.cat([getattr(half, field) for half in halves]))


def position(count=1, *, mirrored=False):
    return Shown(0, np.arange(count), np.arange(count), np.full(count, mirrored))


def test_the_part_is_not_given_and_everything_else_is(flock):
    batch = flock.gather(position(40))
    assert not batch.given_NPHW[:, EYE].any() and batch.part_N1HW.any((1, 2, 3)).all()
    assert batch.given_NPHW[:, HEAD].any((1, 2)).all()
    np.testing.assert_array_equal(flock.images_NCHW, 255 - batch.part_N1HW.numpy())


def test_before_means_before(tmp_path):
    dataset = opened(birds(), tmp_path)
    batch = dataset.gather(position(40))
    given = batch.given_NPHW.flatten(2).any(2).numpy()
    expected = (dataset.rank_NP < dataset.rank_NP[:, EYE, None]) & (dataset.rank_NP >= 0)
    np.testing.assert_array_equal(given, expected)
    assert given[:, INITIAL].all()


def test_a_mirrored_drawing_is_mirrored_as_a_whole(flock):
    plain, mirrored = flock.gather(position(4)), flock.gather(position(4, mirrored=True))
    assert torch.equal(mirrored.part_N1HW, plain.part_N1HW.flip(3))
    assert torch.equal(mirrored.given_NPHW, plain.given_NPHW.flip(3))


def test_the_next_part_is_the_one_that_was_drawn_next(flock):
    batch = flock.gather(position(400)._replace(index_N=np.zeros(400, np.int64)))
    begun = batch.begun_NPHW.flatten(2).any(2).sum(1)
    assert set(batch.next_N.tolist()) == {*range(8), 8}  # 8: none
    assert (begun[batch.next_N == 8] == 8).all() and (batch.next_N[begun == 0] == INITIAL).all()


def test_conditions_are_a_function_of_their_seed(flock):
    one, other = flock.conditions(10, 1), flock.conditions(10, 1)
    assert torch.equal(one.given_NPHW, other.given_NPHW)
    assert not torch.equal(one.given_NPHW, flock.conditions(10, 2).given_NPHW)


def test_augmentation_draws_anew_and_within_its_bounds(tmp_path, flock):
    augment = Augment(rotate_degrees=15, shift=0.01, scale=(0.9, 1.1), line_width=(0.5, 1.0))
    dataset = opened(birds(partial="others", augment=augment), tmp_path)
    np.testing.assert_array_equal(dataset.stack_NPHW, flock.stack_NPHW)  # conditions and metrics: as they were drawn
    one, again = (dataset.gather(shown(40, 0, start, start + 40, mirror=False)) for start in (0, 40))
    assert not torch.equal(one.part_N1HW, flock.gather(shown(40, 0, 0, 40, mirror=False)).part_N1HW)
    order = [np.argsort(shown(40, 0, start, start + 40, mirror=False).index_N) for start in (0, 40)]
    assert not torch.equal(one.part_N1HW[order[0]], again.part_N1HW[order[1]])


def test_a_change_turns_around_the_middle():
    from jobs.data.sketches import _change

    quarter = _change(Augment(rotate_degrees=90), np.array([1.0, 0.5, 0.5, 0.5, 0.5]))
    np.testing.assert_allclose(quarter.apply(np.array([[256.0, 0.0]])), [[512.0, 256.0]], atol=1e-9)
    np.testing.assert_allclose(quarter.apply(np.array([[256.0, 256.0]])), [[256.0, 256.0]])


def test_wrong_augmentation_is_refused():
    with pytest.raises(ValidationError, match="smallest factor"):
        Augment(scale=(1.1, 0.9))


# --- rasters


def test_a_line_has_its_width_and_its_place():
    side = 64
    raster = rasterise((np.array([[0.0, 256.0], [512.0, 256.0]]),), side, 32.0)
    ink = raster[:, side // 2].astype(float) / 255
    assert ink.sum() == pytest.approx(32 * side / 560, abs=0.3)
    assert np.average(np.arange(side) + 0.5, weights=ink) == pytest.approx(side / 2, abs=0.13)  # half a fine pixel


def test_a_point_is_a_dot_and_a_missing_part_is_empty():
    drawing = Drawing({1: (np.array([[256.0, 256.0]]),)}, (1,))
    raster = stack(drawing, 3, 32, 40.0)
    assert raster[1].max() > 200 and not raster[[0, 2]].any()


# --- files


def collected(*, used=("body", "none"), eye=((100, 100),)):
    def stroke(*points):
        return [[x, y, x + 5, y + 5, 0] for x, y in points]

    steps = [[stroke((10, 10), (20, 20))], [stroke(*eye)], [stroke((50, 60), (200, 220))], []]
    return {"assignment_id": "a", "output": {"all_strokes": steps, "partsUsed": list(used)}}


def test_collected_drawings_of_doodlergan(tmp_path):
    (tmp_path / "birds.txt").write_text("\n".join(json.dumps(collected()) for _ in range(3)))
    dataset = opened(DoodlerStrokes(part="body", path="birds.txt", resolution=32), tmp_path)
    assert len(dataset) == 3 and dataset.parts == BIRD_PARTS
    given = dataset.gather(position()).given_NPHW.flatten(2).any(2)[0]
    assert [BIRD_PARTS[part] for part in given.nonzero()[:, 0]] == ["initial", "eye"]


def test_prepared_examples_of_doodlergan(tmp_path):
    (tmp_path / "eyes").mkdir()
    example = {"input_parts": {"initial": [[[10, 10], [90, 200]]], "eye": []}, "target_part": [[[100, 100], [120, 90]]]}
    for number in range(4):
        (tmp_path / f"eyes/{number}.json").write_text(json.dumps(example))
    dataset = opened(DoodlerStrokes(part="eye", path="eyes", resolution=32), tmp_path)
    batch = dataset.gather(position(4))
    assert batch.part_N1HW.any((1, 2, 3)).all() and batch.given_NPHW[:, 0].any()


def test_quickdraw(tmp_path):
    drawing = {"word": "bird", "recognized": True, "drawing": [[[0, 255], [0, 10]], [[5, 9, 60], [80, 70, 100]]]}
    lines = [drawing, {**drawing, "recognized": False}, {**drawing, "drawing": [[[0, 9], [3, 4], [0, 16]]]}]
    (tmp_path / "bird.ndjson").write_text("\n".join(map(json.dumps, lines)))
    dataset = opened(QuickDraw(part="stroke2", path="bird.ndjson", resolution=32, strokes=3), tmp_path)
    assert len(dataset.stack_NPHW) == 2 and len(dataset) == 1
    batch = dataset.gather(position())
    assert batch.given_NPHW[0, 0].any() and batch.part_N1HW.any()
    wide = dataset.stack_NPHW[0, 0].any(0).nonzero()[0]
    assert wide.min() <= 2 and wide.max() >= 29  # scaled to the canvas


@pytest.mark.parametrize(
    "bad",
    ['{"drawing": [[["x"], [1]]]}', "not json", '{"drawing": [[[1e9], [1]]]}', '{"drawing": []}', "[1]", "[" * 3000],
)
def test_a_file_of_another_layout_is_refused_with_the_line(tmp_path, bad):
    (tmp_path / "bird.ndjson").write_text(bad)
    with pytest.raises(DataError, match="line 1"):
        opened(QuickDraw(part="stroke1", path="bird.ndjson", resolution=16), tmp_path)


def test_one_bad_line_of_many_is_skipped_and_named(tmp_path):
    good = json.dumps({"drawing": [[[0, 255], [0, 10]]]})
    (tmp_path / "bird.ndjson").write_text("\n".join([good] * 150 + ["{"]))
    dataset = opened(QuickDraw(part="stroke1", path="bird.ndjson", resolution=16), tmp_path)
    assert len(dataset) == 150 and dataset.skipped[0].name == "line 151"


def test_a_part_that_nobody_drew_is_an_error(tmp_path):
    (tmp_path / "birds.txt").write_text(json.dumps(collected()))
    with pytest.raises(DataError, match="none of the 1 drawings has the part 'tail'"):
        opened(DoodlerStrokes(part="tail", path="birds.txt", resolution=16), tmp_path)


def test_an_unknown_part_is_refused_with_those_that_there_are():
    with pytest.raises(ValidationError, match="is none of initial, eye"):
        birds(part="ears")


# --- stacks


def test_made_stacks_read_back_as_they_were_drawn(tmp_path):
    section = birds(resolution=32, drawings=12)
    path = make_stacks(section, tmp_path)
    assert path.read_bytes() == make_stacks(section, tmp_path / "again.zip").read_bytes()
    drawn = opened(section, tmp_path)
    read = opened(PartStacks(part="eye", path="toybirds.zip", resolution=32, parts=TOYBIRD_PARTS), tmp_path)
    np.testing.assert_array_equal(read.stack_NPHW, drawn.stack_NPHW)
    np.testing.assert_array_equal(read.rank_NP, drawn.rank_NP)
    with zipfile.ZipFile(path) as archive:
        truth = json.loads(archive.read("truth.json"))
    np.testing.assert_allclose(truth["head_N3"], hatch(section).truth.head_N3)


def zipped(path: Path, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def test_stacks_from_strangers(tmp_path):
    section = PartStacks(part="eye", path="set.zip", resolution=16, parts=("eye", "head"))
    for entries, message in (
        ({"a/00-tail.png": b""}, "which data.parts does not list"),
        ({"../a/00-eye.png": b""}, "leads out of the archive"),
        ({"a/00-eye.png": b"no picture"}, "cannot be read"),
        ({"readme.txt": b""}, "holds no DRAWING"),
    ):
        zipped(tmp_path / "set.zip", **entries)
        with pytest.raises(DataError, match=message):
            opened(section, tmp_path)
    (tmp_path / "set.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="is not a zip"):
        opened(section, tmp_path)
