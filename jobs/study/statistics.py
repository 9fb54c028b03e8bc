"""Is a variant better than the baseline, by how much, and how sure is that? Paired over seeds.

Few seeds say little, and this module must not say more: the interval is the bootstrap's (expanded for small samples),
or Student's where that is wider, because no resampling can tell three differences of one sign from luck.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 10_000
MOST_SEEDS = 1000
"""A difference that needs more seeds than this is too small to be found this way."""
EXACT_UP_TO = 6
"""Up to so many seeds all resamples are counted (6^6 = 46,656); more are drawn."""


@dataclass(frozen=True)
class Interval:
    """95 %, unless said otherwise."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class PairedDifference:
    """A metric of a variant minus that of the baseline, over the seeds that both have."""

    seeds: int
    mean: float
    deviation: float | None
    """Standard deviation of the differences; unknown with one seed."""
    bootstrap: Interval | None
    student: Interval | None
    p_value: float | None
    """Of the paired t-test."""
    effect: float | None
    """Hedges' g of the paired differences: mean / deviation, corrected for few seeds."""
    seeds_needed: int | None
    """Seeds at which such a difference would be found with 80 % power; None where it cannot be known, or above 1000."""

    @property
    def interval(self) -> Interval | None:
        """The wider one: of two honest intervals the one that promises less."""
        if self.bootstrap is None or self.student is None:
            return None
        return Interval(min(self.bootstrap.low, self.student.low), max(self.bootstrap.high, self.student.high))


def compare(variant: Sequence[float], baseline: Sequence[float], seed: int = 0) -> PairedDifference:
    """The paired difference of two equally long lists of values, one a seed. `seed` is that of the bootstrap.

    Raises ValueError for no pair, or for lists of different lengths.
    """
    if len(variant) != len(baseline) or not variant:
        raise ValueError(f"{len(variant)} values against {len(baseline)}: pairs are needed")
    difference_N = np.asarray(variant, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    count, mean = len(difference_N), float(difference_N.mean())
    if count == 1:
        return PairedDifference(1, mean, None, None, None, None, None, None)
    deviation = float(difference_N.std(ddof=1))
    if deviation <= 1e-12 * max(float(np.abs(difference_N).max()), 1e-300):  # all alike: equal runs, or no noise at all
        exact = Interval(mean, mean)
        return PairedDifference(count, mean, 0.0, exact, exact, 1.0 if mean == 0 else 0.0, None, None)
    return PairedDifference(
        seeds=count,
        mean=mean,
        deviation=deviation,
        bootstrap=bootstrap_interval(difference_N, seed),
        student=student_interval(difference_N),
        p_value=float(stats.ttest_1samp(difference_N, 0.0).pvalue),
        effect=mean / deviation * hedges_correction(count - 1) if count > 2 else None,
        seeds_needed=seeds_needed(mean, deviation),
    )


def bootstrap_interval(value_N: np.ndarray, seed: int) -> Interval:
    """Expanded percentile bootstrap of the mean (Hesterberg 2015, section 5.3).

    The percentiles are those at which it would match Student's interval of normal data: Φ(-√(n/(n-1)) · t_{α/2, n-1})
    instead of α/2. Plain percentiles are too narrow by a third with three values.
    """
    count = len(value_N)
    quantile = special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)
    tail = float(special.ndtr(-math.sqrt(count / (count - 1)) * quantile))
    low, high = np.quantile(resampled_means(value_N, seed), [tail, 1 - tail])
    return Interval(float(low), float(high))


def resampled_means(value_N: np.ndarray, seed: int) -> np.ndarray:
    """Means of resamples with replacement: of all of them where they are few, else of `RESAMPLES` drawn ones."""
    count = len(value_N)
    if count <= EXACT_UP_TO:
        index_RN = np.indices((count,) * count).reshape(count, -1).T
    else:
        index_RN = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    return np.asarray(value_N[index_RN].mean(axis=1))


def student_interval(value_N: np.ndarray) -> Interval:
    """mean ± t_{α/2, n-1} · s / √n."""
    count = len(value_N)
    half = special.stdtrit(count - 1, (1 + CONFIDENCE) / 2) * value_N.std(ddof=1) / math.sqrt(count)
    return Interval(float(value_N.mean() - half), float(value_N.mean() + half))


def hedges_correction(degrees: int) -> float:
    """J(m) = Γ(m/2) / (√(m/2) · Γ((m-1)/2)): an effect size from few values is too large (Hedges 1981), for m > 1."""
    return math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees - 1) / 2)) / math.sqrt(degrees / 2)


def power(mean: float, deviation: float, count: int) -> float:
    """How often a paired t-test over `count` seeds finds a true difference of `mean` at this deviation."""
    critical = special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)
    shift = abs(mean) / deviation * math.sqrt(count)
    found, wrong_side = stats.nct.sf(critical, count - 1, shift), stats.nct.cdf(-critical, count - 1, shift)
    return float(found + np.nan_to_num(wrong_side))


def seeds_needed(mean: float, deviation: float) -> int | None:
    """The fewest seeds with a power of 80 %, if the truth is what was seen; None for more than 1000."""
    if mean == 0 or power(mean, deviation, MOST_SEEDS) < POWER:
        return None
    low, high = 2, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(mean, deviation, middle) >= POWER else (middle + 1, high)
    return low


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for having asked several questions at once (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


Side = Literal["better", "worse", "unclear", "equal", "unknown"]


def side(difference: PairedDifference | None, better: str) -> Side:
    """What may be said of a difference: only an interval without zero says better or worse."""
    if difference is None or difference.interval is None:
        return "unknown"
    interval = difference.interval
    if interval.low == interval.high == 0:
        return "equal"
    if interval.holds(0.0):
        return "unclear"
    return "better" if (difference.mean < 0) == (better == "lower") else "worse"
