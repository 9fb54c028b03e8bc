import numpy as np
import pytest
import scipy.stats
import torch

from jobs.evaluation import frechet
from jobs.evaluation.intervals import around, bootstrap_mean, jackknife, percentiles


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = torch.randn(1000, 1, generator=torch.Generator().manual_seed(1)).double()
    found = jackknife(values, lambda kept: kept.mean().item(), groups=1000 // 2)
    assert found is not None and found.degrees == 499
    assert found.standard_error == pytest.approx(values.std().item() / 1000**0.5, rel=0.1)


def test_jackknife_covers_what_fresh_samples_do() -> None:
    """Of Fréchet distances: the jackknife of one sample of 400 against the spread over fresh samples of 400."""
    rng = torch.Generator().manual_seed(7)
    real = frechet.fit(torch.randn(400, 8, generator=rng))
    draws = [torch.randn(400, 8, generator=rng) * 1.3 + 0.2 for _ in range(40)]

    def distance(features: torch.Tensor) -> float:
        return frechet.distance(real, frechet.fit(features))

    spread = np.std([distance(draw) for draw in draws], ddof=1)
    errors = [found.standard_error for draw in draws if (found := jackknife(draw, distance, 10))]
    assert spread / 1.5 < np.mean(errors) < spread * 1.5


def test_too_few_images_have_no_standard_error() -> None:
    assert jackknife(torch.randn(3, 2), lambda kept: 0.0, 10) is None


@pytest.mark.parametrize("degrees", [3, 9, 499])
def test_around_is_students_interval(degrees: int) -> None:
    low, high = around(5.0, 2.0, degrees)
    half = scipy.stats.t.ppf(0.975, degrees) * 2.0
    assert (low, high) == pytest.approx((5 - half, 5 + half), rel=1e-9)


def test_bootstrap_of_a_mean() -> None:
    values = np.random.RandomState(0).normal(3, 1, 500)
    low, high = bootstrap_mean(values, seed=1)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 500**0.5, rel=0.15)
    assert low < values.mean() < high
    assert bootstrap_mean(values, seed=1) == (low, high)
    assert bootstrap_mean(np.ones(5), seed=1) == (1.0, 1.0)


def test_percentiles_hold_the_middle() -> None:
    assert percentiles(np.arange(1001)) == (25.0, 975.0)
