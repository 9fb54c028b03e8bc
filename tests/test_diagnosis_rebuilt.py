"""Detectors of a StylEx: each finds its failure planted in otherwise healthy images, and nothing in healthy ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jobs.diagnosis import (
    answer_ignored,
    blurry_reconstructions,
    encoder_collapse,
    misread_reconstructions,
    reconstruction_spikes,
    w_clouds_apart,
)
from jobs.diagnosis.inputs import Steps
from jobs.diagnosis.rebuilt import Rebuilt, agreement, divergence, pair, separability
from jobs.diagnosis.table import OF_REBUILT

RNG = np.random.default_rng


def healthy() -> Rebuilt:
    """Reconstructions that are their images but for a little noise."""
    real = RNG(0).integers(0, 256, (96, 3, 16, 16)).astype(np.uint8)
    made = np.clip(real + RNG(1).normal(0, 4, real.shape), 0, 255).astype(np.uint8)
    features = RNG(2).normal(size=(96, 8))
    said = RNG(3).dirichlet([0.2, 0.2], 96)
    clouds = RNG(4).normal(size=(2, 400, 6))
    return Rebuilt(real, made, features, features + 0.1, features[::-1], said, said, clouds[0], clouds[1],
                   np.full(96, 0.3))  # fmt: skip


def fails(detector, measured) -> bool:
    limit = detector.failure.value
    return measured.value > limit if detector.bad == "above" else measured.value < limit


@pytest.mark.parametrize("detector", OF_REBUILT, ids=lambda detector: detector.name)
def test_healthy_reconstructions_raise_nothing(detector):
    measured = detector.measure(healthy())
    assert not fails(detector, measured)
    assert measured.picture is None or measured.picture().shape == (64, 3, 16, 16)


PLANTED = {
    "encoder_collapse": (encoder_collapse, lambda seen: {"made_ND": seen.made_ND.mean(0) + 0.1 * seen.made_ND}),
    "blurry_reconstructions": (
        blurry_reconstructions,
        lambda seen: {"made_NCHW": gaussian_filter(seen.real_NCHW.astype(float), (0, 0, 2, 2)).astype(np.uint8)},
    ),
    "misread_reconstructions": (misread_reconstructions, lambda seen: {"says_NK": seen.said_NK[::-1]}),
    "w_clouds_apart": (w_clouds_apart, lambda seen: {"mapped_MD": seen.mapped_MD + 5}),
    "answer_ignored": (answer_ignored, lambda seen: {"swapped_N": np.zeros(96)}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_failure_is_found_by_its_detector_alone(name):
    module, plant = PLANTED[name]
    seen = replace(healthy(), **plant(healthy()))
    failing = {detector.name for detector in OF_REBUILT if fails(detector, detector.measure(seen))}
    assert module.DETECTOR.name == name and failing == {name}


def test_detectors_leave_out_what_a_recipe_does_not_have():
    seen = replace(healthy(), mapped_MD=None, swapped_N=None, drawn_MD=None)
    assert w_clouds_apart.measure(seen) is None and answer_ignored.measure(seen) is None
    assert encoder_collapse.measure(seen).value == pytest.approx(1)


def test_agreement_and_divergence_are_those_of_the_definition():
    seen = replace(healthy(), said_NK=np.array([[0.9, 0.1], [0.5, 0.5]]), says_NK=np.array([[0.2, 0.8], [0.5, 0.5]]))
    expected = (0.9 * np.log(0.9 / 0.2) + 0.1 * np.log(0.1 / 0.8)) / 2
    assert agreement(seen) == 0.5 and divergence(seen) == pytest.approx(expected)
    assert len(pair(seen)) == 64


def test_separability_is_a_half_for_one_cloud_and_one_for_two():
    one, other = RNG(5).normal(size=(2, 2000, 4))
    assert separability(one, other) == pytest.approx(0.5, abs=0.05)
    assert separability(one, other + np.array([6, 0, 0, 0])) > 0.999
    shifted = separability(one, other + np.array([1.0, 0, 0, 0]))
    assert shifted == pytest.approx(0.76, abs=0.03)  # Φ(1/√2)


def spiky(trend: float, spikes: int) -> np.ndarray:
    values = np.exp(np.linspace(0, trend, 1000)) + RNG(6).normal(0, 0.01, 1000)
    values[RNG(7).choice(np.arange(200, 1000), spikes, replace=False)] += 1.0
    return values


@pytest.mark.parametrize(
    ("trend", "spikes", "found"), [(0.0, 40, True), (0.0, 0, False), (-3.0, 40, False), (0.5, 40, True)]
)
def test_spikes_count_where_the_loss_does_not_fall(trend, spikes, found):
    steps = Steps(1, 2, {"loss.reconstruction": spiky(trend, spikes)}, {})
    measured = reconstruction_spikes.measure(steps)
    assert fails(reconstruction_spikes.DETECTOR, measured) == found
    assert reconstruction_spikes.measure(Steps(1, 2, {}, {})) is None


def test_the_trend_is_the_fall_over_the_last_third():
    values = np.concatenate([np.full(600, 5.0), np.exp(np.linspace(0, -1, 300))])
    assert reconstruction_spikes.trend(values) == pytest.approx(-1, abs=0.05)
