"""PlantedAttributes: what was planted is read back exactly, and the class follows the two causes alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.data.planted import ATTRIBUTES, classes, generate, read_attributes
from jobs.spec.data import ATTRIBUTE_LEVELS, ImageZip, PlantedAttributes
from tests.data_files import opened

LEVELS = tuple(ATTRIBUTE_LEVELS.values())
EVERY = np.array(list(itertools.product(*map(range, LEVELS))))
PAIRS = list(itertools.permutations(ATTRIBUTES, 2))


@pytest.mark.parametrize("resolution", [32, 64])
def test_attributes_are_read_exactly(resolution: int) -> None:
    images_NCHW, level_NA = generate(PlantedAttributes(images=600, resolution=resolution))
    assert images_NCHW.shape == (600, 3, resolution, resolution) and images_NCHW.dtype == np.uint8
    readings = read_attributes(images_NCHW, resolution)
    np.testing.assert_array_equal(readings.level_NA, level_NA)
    assert readings.error_N.max() == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**63 - 1), st.floats(0, 20))
def test_readings_stand_noise_and_dimming(seed: int, noise: float) -> None:
    images_NCHW, level_NA = generate(PlantedAttributes(images=50, seed=seed))
    rng = np.random.default_rng(seed)
    spoilt = (images_NCHW * 0.97 + rng.normal(0, noise, images_NCHW.shape)).clip(0, 255).astype(np.uint8)
    readings = read_attributes(spoilt)
    assert (readings.level_NA == level_NA).mean() > 0.99
    assert readings.error_N.mean() > 0


def test_every_combination_is_another_image() -> None:
    images_NCHW, level_NA = generate(PlantedAttributes(images=3000))
    kinds = {image.tobytes(): tuple(levels) for image, levels in zip(images_NCHW, level_NA.tolist(), strict=True)}
    assert len(kinds) == len({tuple(levels) for levels in level_NA.tolist()})


@pytest.mark.parametrize("causal", PAIRS)
def test_the_class_depends_on_the_two_causes_alone_and_halves_the_set(causal) -> None:
    label_N = classes(EVERY, PlantedAttributes(causal=causal))
    assert label_N.mean() == 0.5
    cube = label_N.reshape(LEVELS)
    for axis, name in enumerate(ATTRIBUTES):
        changes = bool((cube != np.roll(cube, 1, axis)).any())
        assert changes == (name in causal)


def test_every_image_can_be_made_to_change_its_class_by_its_causes() -> None:
    cube = classes(EVERY, PlantedAttributes()).reshape(LEVELS)
    size, eye = (ATTRIBUTES.index(name) for name in ("size", "eye"))
    assert (cube.max((size, eye)) == 1).all() and (cube.min((size, eye)) == 0).all()


def test_attributes_are_independent_and_the_same_seed_draws_the_same() -> None:
    level_NA = generate(PlantedAttributes(images=20_000))[1]
    correlation = np.corrcoef(level_NA.T) - np.eye(6)
    assert abs(correlation).max() < 0.03
    np.testing.assert_array_equal(level_NA, generate(PlantedAttributes(images=20_000))[1])
    assert not np.array_equal(level_NA, generate(PlantedAttributes(images=20_000, seed=1))[1])


def test_the_images_are_pinned() -> None:
    """Results are only comparable while the same section draws the same images."""
    images_NCHW, level_NA = generate(PlantedAttributes(images=600, seed=3))
    assert level_NA[:2].tolist() == PINNED_LEVELS
    assert images_NCHW.sum() == PINNED_TOTAL


def test_opened_it_has_classes_names_and_truth(tmp_path) -> None:
    section = PlantedAttributes(images=300, causal=("stripes", "hue"))
    dataset = opened(section, tmp_path)
    images_NCHW, level_NA = generate(section)
    np.testing.assert_array_equal(dataset.images_NCHW, images_NCHW)
    np.testing.assert_array_equal(dataset.labels_N, classes(level_NA, section))
    assert dataset.class_names == ("plain", "marked")


def test_made_as_a_zip_it_reads_back(tmp_path) -> None:
    from jobs.data import make_zip

    section = PlantedAttributes(images=40)
    make_zip(section, tmp_path / "out")
    dataset = opened(ImageZip(path="out/planted_attributes.zip", resolution=32, labels=True), tmp_path)
    images_NCHW, level_NA = generate(section)
    np.testing.assert_array_equal(dataset.images_NCHW, images_NCHW)
    np.testing.assert_array_equal(dataset.labels_N, classes(level_NA, section))


def test_one_cause_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="eye twice"):
        PlantedAttributes(causal=("eye", "eye"))


PINNED_LEVELS = [[4, 3, 1, 1, 1, 3], [5, 3, 3, 0, 0, 1]]
PINNED_TOTAL = 247458679
