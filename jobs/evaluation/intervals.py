"""95 % intervals beside every value."""

import numpy as np

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


def around(value: float, standard_error: float, degrees: int) -> tuple[float, float] | None:
    """`value` ± t · standard error with Student's t at 97.5 %; None where there is no standard error."""
    if not np.isfinite(standard_error):
        return None
    # Cornish-Fisher expansion of Student's t (Abramowitz and Stegun 26.7.5): exact to 1e-3 from 5 degrees on.
    z = 1.959963984540054
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    t = z + sum(term / degrees**power for power, term in enumerate(terms, start=1))
    return value - t * standard_error, value + t * standard_error
