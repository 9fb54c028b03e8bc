"""Random numbers as functions of (seed, purpose, position): the same for a position however batches are cut."""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15


def uniform(seed: int, purpose: int, position_N: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """[N, count] in [0, 1): splitmix64 (Steele et al. 2014) of a counter of its own for every number."""
    with np.errstate(over="ignore"):
        origin = _mixed(np.array([(seed + _GOLDEN * (purpose + 1)) % 2**64], np.uint64))
        counter_NC = position_N.astype(np.uint64)[:, None] * np.uint64(count) + np.arange(count, dtype=np.uint64)
        bits_NC = _mixed(np.asarray(origin + np.uint64(_GOLDEN) * (counter_NC + np.uint64(1)), np.uint64))
    return (bits_NC >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
