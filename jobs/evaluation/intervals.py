"""95 % intervals beside every value."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

RESAMPLES = 1000


def bootstrap_mean(values_N: np.ndarray, seed: int) -> tuple[float, float]:
    """Percentile bootstrap of the mean of `values_N` over `RESAMPLES` resamples (Efron 1979)."""
    rng = np.random.RandomState(seed)
    values_N = np.asarray(values_N, dtype=np.float64)
    means = [values_N[rng.randint(0, len(values_N), len(values_N))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Where the middle 95 % of `values` lie."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Jackknife:
    """A standard error and its degrees of freedom."""

    standard_error: float
    degrees: int


def jackknife(features_ND: Tensor, statistic: Callable[[Tensor], float], groups: int) -> Jackknife | None:
    """Standard error of `statistic` over the images, each of `groups` left out in turn; None for fewer than 4 images.

    Delete-a-group jackknife (Kott 2001), se² = (g-1)/g Σ (dᵢ - d̄)². A bootstrap would not do for statistics of a
    covariance: repeating images lowers its rank and shifts the statistic itself.
    """
    groups = min(groups, len(features_ND) // 2)
    if groups < 2:
        return None
    group_N = torch.arange(len(features_ND), device=features_ND.device) % groups
    values = np.array([statistic(features_ND[group_N != group]) for group in range(groups)])
    return Jackknife(float(np.sqrt((groups - 1) / groups * ((values - values.mean()) ** 2).sum())), groups - 1)


def around(value: float, standard_error: float, degrees: int) -> tuple[float, float]:
    """`value` ± t · standard error with Student's t at 97.5 %."""
    half = float(stdtrit(degrees, 0.975)) * standard_error
    return value - half, value + half
