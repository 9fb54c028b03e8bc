"""The table: every metric in every feature space, from features to rows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, assert_never

import torch
from torch import Tensor

from jobs.evaluation import frechet, kid, prdc
from jobs.evaluation.intervals import around, bootstrap_mean, percentiles
from jobs.evaluation.rows import MetricRow
from jobs.spec.evaluation import Evaluation, MetricName

FRECHET_GROUPS = 10
BallMetric = Literal["precision", "recall", "density", "coverage"]


@dataclass(frozen=True)
class Comparison:
    """Two sets of features of one space, on the device where the metrics run, and the row that they share."""

    real_ND: Tensor
    fake_MD: Tensor
    real_gaussian: frechet.Gaussian | None
    section: Evaluation
    row: MetricRow
    """What is the same in every row: feature space, counts, resize, seed, label. Its metric and value are filled in."""

    def neighbours(self, metric: MetricName) -> int:
        """k, or as many neighbours as there are in a set too small for k."""
        return min(self.section.neighbours(metric), len(self.real_ND) - 1, len(self.fake_MD) - 1)


def rows(comparison: Comparison) -> list[MetricRow]:
    """One row for each metric that the section asks for, in its order."""
    balls = _balls(comparison)
    return [row for metric in comparison.section.metrics for row in _rows_of(metric, comparison, balls)]


def _balls(comparison: Comparison) -> prdc.Neighbourhoods | None:
    if not {"precision", "recall", "density", "coverage"} & set(comparison.section.metrics):
        return None
    return prdc.neighbourhoods(
        comparison.real_ND,
        comparison.fake_MD,
        k_precision=comparison.neighbours("precision"),
        k_density=comparison.neighbours("density"),
    )


def _rows_of(metric: MetricName, comparison: Comparison, balls: prdc.Neighbourhoods | None) -> Iterator[MetricRow]:
    match metric:
        case "fd":
            yield _frechet_row(comparison)
        case "kid":
            yield _kid_row(comparison)
        case "precision" | "recall" | "density" | "coverage":
            assert balls is not None
            yield _balls_row(metric, comparison, balls)
        case _:
            assert_never(metric)


def _frechet_row(comparison: Comparison) -> MetricRow:
    real = comparison.real_gaussian or frechet.fit(comparison.real_ND)
    value = frechet.distance(real, frechet.fit(comparison.fake_MD))
    row = replace(comparison.row, metric="fd", value=value)
    if not comparison.section.intervals:
        return row
    groups = min(FRECHET_GROUPS, len(comparison.fake_MD) // 2)
    interval = around(value, frechet.jackknife(real, comparison.fake_MD, groups), groups - 1)
    if interval is not None:
        interval = max(interval[0], 0.0), interval[1]
    return _with_interval(row, interval, "95 %, jackknife over 10 groups of generated images")


def _kid_row(comparison: Comparison) -> MetricRow:
    section = comparison.section
    fewest = min(len(comparison.real_ND), len(comparison.fake_MD))
    images = max(2, min(section.kid_subset_images, fewest // 2))
    values = kid.kernel_distances(comparison.real_ND, comparison.fake_MD, section.kid_subsets, images, section.seed)
    note = f"mean of {section.kid_subsets} subsets of {images}, standard deviation {values.std():.3g}"
    row = replace(comparison.row, metric="kid", value=float(values.mean()), note=note)
    interval = percentiles(values) if section.intervals else None
    return _with_interval(row, interval, f"middle 95 % of {section.kid_subsets} subsets of {images}")


def _balls_row(metric: BallMetric, comparison: Comparison, balls: prdc.Neighbourhoods) -> MetricRow:
    values = balls.of(metric).cpu().numpy()
    note = f"k = {comparison.neighbours(metric)}"
    row = replace(comparison.row, metric=metric, value=float(values.mean()), note=note)
    interval = bootstrap_mean(values, comparison.section.seed) if comparison.section.intervals else None
    return _with_interval(row, interval, "95 %, bootstrap over images, balls held fixed")


def _with_interval(row: MetricRow, interval: tuple[float, float] | None, kind: str) -> MetricRow:
    if interval is None:
        return row
    return replace(row, interval_low=interval[0], interval_high=interval[1], interval_kind=kind)


def to_device(features_ND: Tensor, device: torch.device) -> Tensor:
    """Features in float64 where the metrics run."""
    return features_ND.to(device).double()
