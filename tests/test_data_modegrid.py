"""ModeGrid: every mode can be drawn, found again, and counted; nothing else is taken for one."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jobs.data.dataset import ImagesU8, LabelsI64
from jobs.data.modegrid import assign_modes, coverage_of, generate, kept_modes, mode_coverage, mode_names
from jobs.spec.data import ModeGrid

FULL = ModeGrid(images=5760)
SECTIONS = st.builds(
    ModeGrid,
    images=st.integers(576, 700),
    seed=st.integers(0, 2**63 - 1),
    shapes=st.integers(1, 8),
    hues=st.integers(1, 8),
    positions=st.integers(1, 9),
    jitter=st.sampled_from([0, 1]),
    scale_jitter=st.sampled_from([0.0, 0.05, 0.1]),
    dropped_modes=st.sampled_from([0.0, 0.3]),
)


@cache
def full() -> tuple[ImagesU8, LabelsI64]:
    return generate(FULL)


@settings(max_examples=30, deadline=None)
@given(SECTIONS)
def test_every_image_is_assigned_to_its_mode(section: ModeGrid) -> None:
    images_NCHW, mode_N = generate(section)
    assert images_NCHW.shape == (section.images, 3, 32, 32) and images_NCHW.dtype == np.uint8
    np.testing.assert_array_equal(assign_modes(images_NCHW, section), mode_N)


def test_every_image_at_64_is_assigned_to_its_mode() -> None:
    section = ModeGrid(resolution=64, images=2000)
    images_NCHW, mode_N = generate(section)
    np.testing.assert_array_equal(assign_modes(images_NCHW, section), mode_N)


def test_all_variants_of_all_modes_are_drawn() -> None:
    images_NCHW, mode_N = generate(ModeGrid(images=3000, shapes=2, hues=2, positions=2))
    kinds = [len({image.tobytes() for image in images_NCHW[mode_N == mode]}) for mode in range(8)]
    assert kinds == [27] * 8, "nine shifts in three sizes"
    assert len({image.tobytes() for image in images_NCHW}) == 8 * 27


@settings(max_examples=30, deadline=None)
@given(SECTIONS)
def test_modes_are_equally_frequent_and_dropped_ones_absent(section: ModeGrid) -> None:
    counts = np.bincount(generate(section)[1], minlength=section.modes)
    kept = kept_modes(section)
    assert len(kept) == section.modes - section.dropped_count
    assert counts[kept].max() - counts[kept].min() <= 1
    assert np.delete(counts, kept).sum() == 0


def test_the_same_seed_draws_the_same_images() -> None:
    small = ModeGrid(images=600, seed=3)
    np.testing.assert_array_equal(generate(small)[0], generate(small)[0])
    assert not np.array_equal(generate(small)[1], generate(small.model_copy(update={"seed": 4}))[1])


def test_the_images_are_pinned() -> None:
    """Results on ModeGrid are only comparable while the same section draws the same images."""
    images_NCHW, mode_N = generate(ModeGrid(images=600, seed=3))
    assert mode_N[:8].tolist() == PINNED_MODES
    assert images_NCHW[:8].sum((1, 2, 3)).tolist() == PINNED_SUMS
    assert images_NCHW.sum() == PINNED_TOTAL


PINNED_MODES = [285, 309, 495, 191, 244, 271, 519, 530]
PINNED_SUMS = [26164, 14084, 19928, 12372, 18708, 14816, 17280, 21828]
PINNED_TOTAL = 9583639


def test_dropped_modes_by_number() -> None:
    section = ModeGrid(images=600, dropped_modes=(0, 5, 575))
    assert set(range(576)) - set(kept_modes(section).tolist()) == {0, 5, 575}


def test_names_follow_the_numbers() -> None:
    names = mode_names(FULL)
    assert len(set(names)) == 576
    assert names[0] == "corner, hue 0, middle"
    assert names[(1 * 8 + 2) * 9 + 1] == "ring, hue 90, top left"


def test_position_and_hue_are_where_the_name_says() -> None:
    images_NCHW, mode_N = full()
    top_left_red = images_NCHW[mode_N == 1]
    assert top_left_red[:, 1:].max() == 0, "hue 0 is red"
    assert top_left_red[:, 0, 12:, :].max() == 0 and top_left_red[:, 0, :, 12:].max() == 0
    assert top_left_red[:, 0, :12, :12].max() == 255


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 5759), st.integers(0, 5759))
def test_a_blend_of_two_modes_in_halves_is_none(first: int, second: int) -> None:
    images_NCHW, mode_N = full()
    one, other = mode_N[[first, second]]
    apart = abs(one // 9 % 8 - other // 9 % 8)
    assume(one != other and (one % 9 != other % 9 or min(apart, 8 - apart) <= 1))  # or they mix to the hue between
    blend = (images_NCHW[[first]].astype(int) + images_NCHW[[second]]) // 2
    assert assign_modes(blend.astype(np.uint8), FULL).tolist() == [-1]


def test_no_blend_of_any_two_shapes_in_any_variants_is_a_mode() -> None:
    section = ModeGrid(images=3000, hues=1, positions=1)
    images_NCHW, mode_N = generate(section)
    images_NCHW, first_N = np.unique(images_NCHW, axis=0, return_index=True)
    mode_N = mode_N[first_N]
    assert len(mode_N) == 8 * 27
    one, other = np.nonzero(mode_N[:, None] < mode_N)
    blends = ((images_NCHW[one].astype(np.uint16) + images_NCHW[other]) // 2).astype(np.uint8)
    assert (assign_modes(blends, section) == -1).all()


@pytest.mark.parametrize("step", [1, 9, 72], ids=["position", "hue", "shape"])
def test_neighbours_in_one_factor_blended_in_halves_are_none(step: int) -> None:
    section = ModeGrid(images=576, jitter=0, scale_jitter=0)
    images_NCHW, mode_N = generate(section)
    by_mode = images_NCHW[np.argsort(mode_N)].astype(int)
    blends = (by_mode + np.roll(by_mode, step, axis=0)) // 2
    assert (assign_modes(blends.astype(np.uint8), FULL) == -1).all()


def test_what_is_no_shape_is_none() -> None:
    rng = np.random.default_rng(0)
    images_NCHW, _ = full()
    nothing = {
        "noise": rng.integers(0, 256, (300, 3, 32, 32), dtype=np.uint8),
        "faint noise": rng.integers(0, 30, (300, 3, 32, 32), dtype=np.uint8),
        "black": np.zeros((2, 3, 32, 32), np.uint8),
        "flat": np.full((2, 3, 32, 32), [[[255]], [[0]], [[0]]], np.uint8),
        "white": np.full((2, 3, 32, 32), 255, np.uint8),
        "grey shapes": np.repeat(images_NCHW[:300].max(1, keepdims=True), 3, axis=1),
        "negatives": 255 - images_NCHW[:300],
        "two shapes": np.maximum(images_NCHW[:300], np.roll(images_NCHW[:300], 10, axis=3)),
        "faded": images_NCHW[:300] // 3,
        "half a shape": np.where(np.arange(32) % 2 == 0, images_NCHW[:300], 0).astype(np.uint8),
        "wrong place": np.roll(images_NCHW[:300], 5, axis=3),
    }
    for name, pictures in nothing.items():
        assert (assign_modes(pictures, FULL) == -1).mean() >= 0.99, name


def test_with_a_single_mode_not_everything_is_it() -> None:
    single = ModeGrid(images=100, shapes=1, hues=1, positions=1)
    images_NCHW, _ = generate(single)
    others = full()[0][full()[1] != 0][:200]
    assert (assign_modes(images_NCHW, single) == 0).all()
    for pictures in (images_NCHW // 2, others, np.zeros_like(images_NCHW), 255 - images_NCHW):
        assert (assign_modes(pictures, single) == -1).all()


def test_small_faults_are_forgiven() -> None:
    rng = np.random.default_rng(0)
    images_NCHW, mode_N = full()
    noisy = (images_NCHW[:2000] + rng.normal(0, 8, (2000, 3, 32, 32))).clip(0, 255).astype(np.uint8)
    assert (assign_modes(noisy, FULL) == mode_N[:2000]).mean() > 0.99
    dimmed = (images_NCHW[:2000] * 0.85).astype(np.uint8)
    assert (assign_modes(dimmed, FULL) == mode_N[:2000]).mean() > 0.99
    between = ((images_NCHW[:2000].astype(int) + np.roll(images_NCHW[:2000], 1, axis=3)) // 2).astype(np.uint8)
    found = assign_modes(between, FULL)
    assert (found == mode_N[:2000]).mean() > 0.9
    assert (found[found >= 0] == mode_N[:2000][found >= 0]).all()


def test_coverage_of_the_data_itself() -> None:
    images_NCHW, _ = full()
    found = mode_coverage(images_NCHW, FULL)
    assert (found.samples, found.total, found.covered) == (5760, 576, 576)
    assert found.precision == 1 and found.dropped == 0
    assert found.kl == pytest.approx(0, abs=1e-9) and found.reverse_kl == pytest.approx(0, abs=1e-9)


def test_coverage_of_a_collapsed_generator() -> None:
    images_NCHW, mode_N = full()
    found = mode_coverage(images_NCHW[mode_N == 7].repeat(100, axis=0), FULL)
    assert found.covered == 1 and found.precision == 1
    assert found.kl == pytest.approx(math.log(576))
    assert found.reverse_kl > 1


def test_coverage_with_holes_and_rubbish() -> None:
    section = ModeGrid(images=600, dropped_modes=(0, 1, 2, 3))
    mode_N = np.array([0, 1, 4, 4, 5, -1, -1, 6])
    found = coverage_of(mode_N, section)
    assert (found.total, found.covered) == (572, 3)
    assert (found.precision, found.dropped) == (4 / 8, 2 / 8)
    assert found.kl == pytest.approx(
        sum(p * math.log(p * 572) for p in (0.5, 0.25, 0.25))
    )  # KL(p || uniform) by its definition


def test_coverage_of_nothing() -> None:
    empty = coverage_of(np.empty(0, np.int64), FULL)
    assert empty.covered == 0 and empty.precision == 0 and empty.kl is None and math.isfinite(empty.reverse_kl)
    rubbish = coverage_of(np.full(10, -1), FULL)
    assert rubbish.covered == 0 and rubbish.precision == 0 and rubbish.kl is None
    assert assign_modes(np.empty((0, 3, 32, 32), np.uint8), FULL).shape == (0,)


def test_the_ceiling_is_what_the_data_would_reach() -> None:
    rng = np.random.default_rng(0)
    reached = [coverage_of(rng.integers(0, 576, 1000), FULL).covered for _ in range(50)]
    assert coverage_of(rng.integers(0, 576, 1000), FULL).covered_expected == pytest.approx(np.mean(reached), abs=2)
