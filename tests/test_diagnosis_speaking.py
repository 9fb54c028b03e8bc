"""Detectors of talking faces: what each measures, and that its failure is a failure."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.diagnosis import (
    audio_ignored,
    dead_discriminator,
    doubled_features,
    drowned_term,
    repeated_half,
    saturated_discriminator,
    stale_frames,
    static_lips,
)
from jobs.diagnosis.detector import Detector
from jobs.diagnosis.inputs import Steps, Window
from jobs.diagnosis.speaking import Speaking
from jobs.diagnosis.table import OF_SPEAKING

HEALTHY = Speaking(
    images=1000, planned_images=2000, motion_ratio=0.9, swap=0.8, correlation=0.9, upper_error=0.02, lower_error=0.02,
    halves_correlation=0.2, real_halves_correlation=0.15, extra_eyes=0.0,
    strip_NCHW=np.zeros((4, 1, 8, 8), np.uint8),
)  # fmt: skip


def failed(detector: Detector, given) -> bool:
    measured = detector.measure(given)
    assert measured is not None
    limit = detector.failure.value
    return measured.value > limit if detector.bad == "above" else measured.value < limit


def steps(recent=(), windows=()) -> Steps:
    return Steps(
        images=1000, planned_images=2000,
        recent={name: np.asarray(values, np.float64) for name, values in recent},
        windows={name: [Window(value, value, 50)] for name, value in windows},
    )  # fmt: skip


def test_a_healthy_film_fails_nowhere():
    assert not any(failed(detector, HEALTHY) for detector in OF_SPEAKING)
    assert static_lips.measure(HEALTHY).picture().shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("detector", "change"),
    [
        (static_lips.DETECTOR, {"motion_ratio": 0.1}),
        (audio_ignored.DETECTOR, {"swap": 0.1}),
        (audio_ignored.DETECTOR, {"correlation": 0.2}),
        (audio_ignored.DETECTOR, {"correlation": -0.9}),
        (doubled_features.DETECTOR, {"extra_eyes": 1.5}),
        (repeated_half.DETECTOR, {"halves_correlation": 0.9}),
    ],
)
def test_what_goes_wrong_is_named(detector, change):
    assert failed(detector, replace(HEALTHY, **change))


def test_where_eyes_are_not_known_none_are_counted():
    assert doubled_features.measure(replace(HEALTHY, extra_eyes=None)) is None


def test_a_dead_discriminator_has_had_no_loss_for_200_steps():
    alive = [("loss.identity", np.full(300, 0.4)), ("logit.identity.real", np.zeros(300))]
    dead = [("loss.sync", np.full(300, 1e-9)), ("logit.sync.real", np.zeros(300))]
    assert not failed(dead_discriminator.DETECTOR, steps(alive))
    assert failed(dead_discriminator.DETECTOR, steps([*alive, *dead]))
    assert "sync" in dead_discriminator.measure(steps([*alive, *dead])).detail
    woken = [("loss.sync", np.append(np.full(299, 1e-9), 0.2)), dead[1]]
    assert not failed(dead_discriminator.DETECTOR, steps(woken))
    assert dead_discriminator.measure(steps([("loss.generator.l1", np.zeros(300))])) is None
    assert dead_discriminator.measure(steps([(name, values[:50]) for name, values in dead])) is None


def test_saturation_is_of_bounded_logits_only():
    assert failed(saturated_discriminator.DETECTOR, steps([("saturated.sequence", np.full(50, 0.97))]))
    assert not failed(saturated_discriminator.DETECTOR, steps([("saturated.sequence", np.full(50, 0.2))]))
    assert saturated_discriminator.measure(steps()) is None


def test_a_drowned_term_has_next_to_no_share():
    assert failed(drowned_term.DETECTOR, steps(windows=[("share.l1", 0.9995), ("share.sync", 0.0005)]))
    assert not failed(drowned_term.DETECTOR, steps(windows=[("share.l1", 0.6), ("share.sync", 0.4)]))
    assert drowned_term.measure(steps(windows=[("share.l1", 1.0)])) is None


def test_stale_frames_are_any_that_the_step_has_not():
    real = ("frames.real", np.full(10, 64))
    assert not failed(stale_frames.DETECTOR, steps([("frames.generated", np.full(10, 64)), real]))
    assert failed(stale_frames.DETECTOR, steps([("frames.generated", np.arange(64, 640, 64)[-9:]), real]))
    assert stale_frames.measure(steps()) is None
