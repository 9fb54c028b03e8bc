"""The numbers of a comparison against scipy, and how often it is wrong."""

import math

import numpy as np
import pytest
from scipy import stats

from jobs.study import statistics as s

VARIANT = [11.2, 9.8, 10.4, 12.0, 10.9]
BASELINE = [12.9, 11.1, 11.0, 13.2, 12.6]


def test_student_s_interval_and_p_are_scipy_s():
    found = s.compare(VARIANT, BASELINE)
    reference = stats.ttest_rel(VARIANT, BASELINE)
    interval = reference.confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(VARIANT) - np.mean(BASELINE))
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-12)
    assert (found.student.low, found.student.high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_the_bootstrap_is_scipy_s_at_the_expanded_level():
    difference = np.subtract(VARIANT, BASELINE)
    count = len(difference)
    tail = stats.norm.cdf(-math.sqrt(count / (count - 1)) * stats.t.ppf(0.975, count - 1))
    reference = stats.bootstrap(
        (difference,), np.mean, method="percentile", confidence_level=1 - 2 * tail, n_resamples=200_000, rng=0
    )
    found = s.bootstrap_interval(difference, seed=0)
    low, high = reference.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_few_seeds_are_resampled_completely_and_many_by_chance():
    few = s.resampled_means(np.array([1.0, 2.0, 4.0]), seed=0)
    assert len(few) == 27 and sorted(few)[0] == 1.0 and few.mean() == pytest.approx(7 / 3)
    many = np.random.default_rng(0).normal(size=20)
    assert len(s.resampled_means(many, 0)) == s.RESAMPLES
    assert s.bootstrap_interval(many, 0) == s.bootstrap_interval(many, 0)


def test_with_many_seeds_both_intervals_agree():
    values = np.random.default_rng(1).normal(0.5, 1.0, 200)
    boot, student = s.bootstrap_interval(values, 0), s.student_interval(values)
    assert (boot.low, boot.high) == pytest.approx((student.low, student.high), abs=0.02)


def test_hedges_correction_is_its_formula():
    for degrees in (2, 5, 30):
        reference = math.gamma(degrees / 2) / (math.sqrt(degrees / 2) * math.gamma((degrees - 1) / 2))
        assert s.hedges_correction(degrees) == pytest.approx(reference)
        assert s.hedges_correction(degrees) == pytest.approx(1 - 3 / (4 * degrees - 1), abs=0.01)
    found = s.compare(VARIANT, BASELINE)
    difference = np.subtract(VARIANT, BASELINE)
    assert found.effect == pytest.approx(difference.mean() / difference.std(ddof=1) * s.hedges_correction(4))


@pytest.mark.parametrize(("mean", "deviation"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.5)])
def test_as_many_seeds_as_are_needed_find_it_four_times_in_five(mean, deviation):
    needed = s.seeds_needed(mean, deviation)
    draws = np.random.default_rng(2).normal(mean, deviation, (20_000, needed))
    found = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert 0.78 < found < 0.9
    assert s.power(mean, deviation, needed - 1) < s.POWER <= s.power(mean, deviation, needed)


def test_what_cannot_be_found_needs_no_number():
    assert s.seeds_needed(1e-4, 1.0) is None
    assert s.seeds_needed(0.0, 1.0) is None


def test_one_seed_gives_a_difference_and_nothing_else():
    found = s.compare([1.0], [2.0])
    assert found.mean == -1.0 and found.interval is None and s.side(found, "lower") == "unknown"


def test_equal_runs_are_equal():
    found = s.compare([1.5, 2.5, 3.5], [1.5, 2.5, 3.5])
    assert s.side(found, "lower") == "equal" and found.p_value == 1.0


def test_a_constant_difference_is_no_accident():
    assert s.side(s.compare([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), "lower") == "better"


def test_pairs_are_needed():
    with pytest.raises(ValueError, match="pairs"):
        s.compare([1.0], [1.0, 2.0])


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_nothing_is_called_a_difference_about_once_in_twenty_times_at_most(seeds):
    """The bootstrap alone would call one in four with three seeds."""
    draws = np.random.default_rng(seeds).normal(0, 1, (400, 2, seeds))
    called = [s.side(s.compare(list(a), list(b)), "lower") in ("better", "worse") for a, b in draws]
    assert np.mean(called) < 0.08


def test_holm_is_the_step_down_procedure():
    p_values = [0.01, 0.04, 0.03]
    assert s.holm(p_values) == pytest.approx([0.03, 0.06, 0.06])
    assert s.holm([]) == []
    for value, corrected in zip(p_values, s.holm(p_values), strict=True):
        assert value <= corrected <= min(1.0, value * 3)
