"""What is watched for in growing, conditional generators: each detector by itself, on both sides of its limit."""

import numpy as np
import pytest

from jobs.diagnosis import (
    blind,
    condition_ignored,
    dead_normaliser,
    growth_overpowered,
    growth_starved,
    growth_unstable,
    ink_ratio,
    unbounded_critic,
)
from jobs.diagnosis.inputs import Steps, Window
from jobs.diagnosis.sketching import Sketching


def windows(*medians, steps=100):
    return [Window(median, median, steps) for median in medians]


def seen(recent=None, checks=None, **changes):
    """400 steps, of which the last 200 after a growth, still fading."""
    steps = Steps(6400, 10_000, {name: np.array(values) for name, values in (recent or {}).items()}, checks or {})
    facts = {
        "step": 400, "grown_step": 200, "faded_step": 500, "resolution": 8, "condition_ratio": 2.0, "ink_ratio": 1.0,
        "least_deviation": 0.1, "layer": "blocks.0", "shown_MCHW": np.zeros((1, 1, 8, 8), np.uint8), **changes,
    }  # fmt: skip
    return Sketching(steps=steps, **facts)


def judged(accuracy, margin):
    return {
        "accuracy": np.concatenate([np.full(200, 0.5), accuracy]),
        "margin": np.concatenate([np.zeros(200), margin]),
    }


RISING, FALLING = np.linspace(1, 9, 200), np.linspace(9, 1, 200)
FOUR = {name: windows(1, 1, 1, 1) for name in ("accuracy", "margin", "gradient.generator", "sample_change")}


def test_overpowered_is_sure_and_ever_more_so():
    measure = growth_overpowered.measure
    assert measure(seen(judged(np.full(200, 0.99), RISING), FOUR)).value == pytest.approx(0.99)
    assert measure(seen(judged(np.full(200, 0.99), FALLING), FOUR)).value == 0
    assert measure(seen(judged(np.full(200, 0.7), RISING), FOUR)).value == pytest.approx(0.7)


def test_a_blind_critic_is_seen_though_guessing_costs_it_nothing():
    real, fake = np.array([3.0, 4.0, 5.0, 6.0]), np.array([-1.0, 0.0, 1.0, 2.0])
    assert blind.advantage(-4.0, 0.0, real, fake) == 1.0
    assert blind.advantage(-4.0, 0.0, real, real) == 0.0
    assert blind.advantage(0.7, 1.4, real, real) == pytest.approx(0.5)


def test_only_the_growth_window_is_looked_at():
    recent = judged(np.full(200, 0.99), RISING)
    assert growth_overpowered.measure(seen(recent, FOUR, grown_step=None, faded_step=None)) is None
    assert growth_overpowered.measure(seen(recent, FOUR, grown_step=390)) is None  # too few steps yet
    assert growth_overpowered.measure(seen(recent, FOUR, faded_step=290)) is None  # closed before the last check
    closed = judged(np.concatenate([np.full(150, 0.99), np.full(50, 0.1)]), RISING)
    assert growth_overpowered.measure(seen(closed, FOUR, faded_step=350)).value == pytest.approx(0.99)


def test_starved_is_measured_against_before_the_growth():
    recent = {"gradient.generator": np.concatenate([np.full(200, 1.0), np.full(200, 0.05)])}
    checks = {"gradient.generator": windows(1.0, 1.0, 0.05, 0.05)}
    assert growth_starved.measure(seen(recent, checks)).value == pytest.approx(0.05)
    assert growth_starved.measure(seen(recent, {"gradient.generator": windows(1.0, steps=300)})) is None


def test_unstable_is_measured_against_before_the_growth():
    recent = judged(np.full(200, 0.6), RISING)
    checks = {**FOUR, "sample_change": windows(0.1, 0.1, 0.4, steps=1)}
    assert growth_unstable.measure(seen(recent, checks)).value == pytest.approx(4.0)
    assert growth_unstable.measure(seen(recent, {**FOUR, "sample_change": windows(0.4, steps=3)})) is None


@pytest.mark.parametrize(
    ("ratio", "bad"), [(0.29, True), (0.31, False), (1.0, False), (2.9, False), (3.1, True), (0, True)]
)
def test_ink_ratio(ratio, bad):
    assert (ink_ratio.measure(seen(ink_ratio=ratio)).value > ink_ratio.DETECTOR.failure.value) == bad


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        (np.full(500, 30.0), False),
        (np.full(500, -1500.0), True),
        (np.linspace(1, 40, 1000), False),
        (np.linspace(5, 90, 1000), True),
    ],
)
def test_unbounded_critic(values, bad):
    measured = unbounded_critic.measure(seen({"logit.real": values}))
    assert (measured.value > unbounded_critic.DETECTOR.failure.value) == bad


def test_the_condition_and_the_normaliser():
    assert condition_ignored.measure(seen(condition_ratio=0.1)).value < condition_ignored.DETECTOR.failure.value
    assert dead_normaliser.measure(seen(least_deviation=0.0)).value < dead_normaliser.DETECTOR.failure.value
    assert dead_normaliser.measure(seen()).value > dead_normaliser.DETECTOR.warning.value
    assert unbounded_critic.measure(seen()) is None
