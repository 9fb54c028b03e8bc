"""Is the metric fit for these images at all? Sentences from the sanity rows."""

from collections.abc import Iterable, Sequence
from math import hypot

from jobs.evaluation.rows import MetricRow

REAL = "real against other real"
NOISE = "real against noise"
HALF = "real against half of its modes"

# What each comparison must show, by the metric that is there to show it.
_DETECTS_NOISE = ("fd", "fid", "kid", "precision", "density")
_DETECTS_LOST_MODES = ("fd", "fid", "kid", "recall", "coverage")
_LOWER_IS_BETTER = ("fd", "fid", "kid")


def trust(sanity: Sequence[MetricRow]) -> list[str]:
    """One sentence for each metric and feature space that cannot tell different sets apart; none if all can."""
    sentences = []
    for row in sanity:
        if row.label == NOISE and row.metric in _DETECTS_NOISE:
            sentences += _judge(row, sanity, "noise")
        if row.label == HALF and row.metric in _DETECTS_LOST_MODES:
            sentences += _judge(row, sanity, "real images with half of their modes missing")
    return sentences


def _judge(row: MetricRow, sanity: Iterable[MetricRow], what: str) -> list[str]:
    floor = _floor(row, sanity)
    if floor is None or _apart(floor, row):
        return []
    return [
        f"{row.metric} in {row.features} cannot tell {what} from other real images "
        f"({row.value:.4g} against {floor.value:.4g}, {row.samples} images): "
        f"it says nothing here about {'mode loss' if row.label == HALF else 'quality'}."
    ]


def _floor(row: MetricRow, sanity: Iterable[MetricRow]) -> MetricRow | None:
    """Real against real in the same metric, feature space and counts: what a perfect generator would get."""
    for other in sanity:
        same = (other.metric, other.features, other.samples) == (row.metric, row.features, row.samples)
        if same and other.label == REAL:
            return other
    return None


def _apart(floor: MetricRow, row: MetricRow) -> bool:
    """Whether `row` is worse than `floor` by more than both intervals together, or by a tenth where there are none."""
    worse = row.value - floor.value if row.metric in _LOWER_IS_BETTER else floor.value - row.value
    half_widths = [_half_width(row), _half_width(floor)]
    if None in half_widths:
        return worse > 0.1 * abs(floor.value)
    return worse > hypot(*(width for width in half_widths if width is not None))


def _half_width(row: MetricRow) -> float | None:
    if row.interval_low is None or row.interval_high is None:
        return None
    return (row.interval_high - row.interval_low) / 2
