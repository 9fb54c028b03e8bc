"""The table: every metric in every feature space, from features to rows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from jobs.evaluation import classifier_score, frechet, kid, memorisation, prdc, spectrum, vendi
from jobs.evaluation.features import Extractor
from jobs.evaluation.intervals import around, bootstrap_mean, jackknife, percentiles
from jobs.evaluation.rows import MetricRow
from jobs.spec.evaluation import Evaluation, MetricName

GROUPS = 10
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Reference:
    """Features of real images, on the device where the metrics run, and what every comparison with them needs."""

    real_ND: Tensor
    section: Evaluation

    @cached_property
    def gaussian(self) -> frechet.Gaussian:
        return frechet.fit(self.real_ND)

    @cached_property
    def radii(self) -> Tensor:
        """Squared distances to as many nearest neighbours as any metric asks for, [N, k]."""
        most = max(self.section.neighbours("precision"), self.section.neighbours("density"))
        return prdc.squared_radii(self.real_ND, min(most, len(self.real_ND) - 1))


@dataclass(frozen=True)
class Comparison:
    """Generated features of one space against a reference, and the row that all of its metrics share."""

    reference: Reference
    fake_MD: Tensor
    extractor: Extractor
    row: MetricRow
    """What is the same in every row: feature space, counts, resize, seed, label. Its metric and value are filled in."""
    side: int
    """Shorter side of the images in pixels."""

    @property
    def section(self) -> Evaluation:
        return self.reference.section

    @cached_property
    def balls(self) -> prdc.Neighbourhoods:
        """Shared by precision, recall, density and coverage."""
        return prdc.neighbourhoods(
            self.reference.real_ND,
            self.fake_MD,
            self.neighbours("precision"),
            self.neighbours("density"),
            real_radii_NK=self.reference.radii,
        )

    def neighbours(self, metric: MetricName) -> int:
        """k, or as many neighbours as there are in a set too small for k."""
        return min(self.section.neighbours(metric), len(self.reference.real_ND) - 1, len(self.fake_MD) - 1)


Measure = Callable[[MetricName, Comparison], MetricRow]


def rows(comparison: Comparison) -> list[MetricRow]:
    """One row for each metric that the section asks for and the space knows, in the section's order."""
    metrics = ((metric, _measure_of(metric, comparison)) for metric in comparison.section.metrics)
    return [measure(metric, comparison) for metric, measure in metrics if measure is not None]


def _measure_of(metric: MetricName, comparison: Comparison) -> Measure | None:
    """How `metric` is measured in this space; None if it is not."""
    space, head = comparison.extractor.space, comparison.extractor.head
    if space == "spectrum":
        return _spectrum_gap if metric == "spectrum_gap" else None
    if space.startswith("lpips_"):
        return _lpips_diversity if metric == "lpips_diversity" else None
    if metric == "fid":
        return _frechet if space == "inception_v3" and "fd" not in comparison.section.metrics else None
    if metric == "classifier_score":
        return _classifier_score if head is not None else None
    return MEASURES.get(metric)


def _frechet(_: MetricName, comparison: Comparison) -> MetricRow:
    fake_MD, real = comparison.fake_MD, comparison.reference.gaussian
    name = "fid" if comparison.extractor.space == "inception_v3" else "fd"
    row = _row(comparison, name, frechet.distance(real, frechet.fit(fake_MD)))
    return _jackknifed(row, comparison, lambda kept_MD: frechet.distance(real, frechet.fit(kept_MD)))


def _kid(metric: MetricName, comparison: Comparison) -> MetricRow:
    section = comparison.section
    fewest = min(len(comparison.reference.real_ND), len(comparison.fake_MD))
    images = max(2, min(section.kid_subset_images, fewest // 2))
    values = kid.kernel_distances(
        comparison.reference.real_ND, comparison.fake_MD, section.kid_subsets, images, section.seed
    )
    note = f"mean of {section.kid_subsets} subsets of {images}, standard deviation {values.std():.3g}"
    row = _row(comparison, metric, float(values.mean()), note)
    return _with(row, comparison, lambda: percentiles(values), f"middle 95 % of {section.kid_subsets} subsets")


def _balls(metric: MetricName, comparison: Comparison) -> MetricRow:
    balls = comparison.balls
    of = {
        "precision": balls.precise_M,
        "recall": balls.recalled_N,
        "density": balls.dense_M,
        "coverage": balls.covered_N,
    }
    note = f"k = {comparison.neighbours(metric)}"
    return _mean(metric, comparison, of[metric], note, "95 %, bootstrap over images, balls held fixed")


def _memorisation(metric: MetricName, comparison: Comparison) -> MetricRow:
    copied_M = memorisation.memorised(
        comparison.reference.real_ND, comparison.fake_MD, real_radii_NK=comparison.reference.radii
    )
    return _mean(metric, comparison, copied_M, "share by chance is that of other real images; about a half")


def _vendi(metric: MetricName, comparison: Comparison) -> MetricRow:
    note = f"the data's own: {vendi.vendi_score(comparison.reference.real_ND):.4g}"
    row = _row(comparison, metric, vendi.vendi_score(comparison.fake_MD), note)
    return _jackknifed(row, comparison, vendi.vendi_score)


def _classifier_score(metric: MetricName, comparison: Comparison) -> MetricRow:
    head = comparison.extractor.head
    assert head is not None
    divergence_M = classifier_score.divergences(head(comparison.fake_MD)).cpu().numpy()
    real = classifier_score.classifier_score(head(comparison.reference.real_ND))
    row = _row(comparison, metric, float(np.exp(divergence_M.mean())), f"1 split; the data's own: {real:.4g}")

    def interval() -> Interval:
        low, high = bootstrap_mean(divergence_M, comparison.section.seed)
        return float(np.exp(low)), float(np.exp(high))

    return _with(row, comparison, interval, "95 %, bootstrap over images")


def _spectrum_gap(metric: MetricName, comparison: Comparison) -> MetricRow:
    gap = spectrum.gap(comparison.reference.real_ND, comparison.fake_MD, comparison.side)
    note = f"dB; widest {gap.widest_decibel:+.1f} dB at {gap.widest_frequency:.2f} cycles/pixel"
    row = _row(comparison, metric, gap.decibel, note)
    seed = comparison.section.seed
    kind = "95 %, bootstrap over images"
    return _with(
        row, comparison, lambda: spectrum.bootstrap_gap(comparison.reference.real_ND, comparison.fake_MD, seed), kind
    )


def _lpips_diversity(metric: MetricName, comparison: Comparison) -> MetricRow:
    note = f"{len(comparison.fake_MD)} pairs; the data's own: {comparison.reference.real_ND.mean().item():.4g}"
    return _mean(metric, comparison, comparison.fake_MD[:, 0], note, "95 %, bootstrap over pairs")


MEASURES: dict[MetricName, Measure] = {
    "fd": _frechet,
    "kid": _kid,
    "precision": _balls,
    "recall": _balls,
    "density": _balls,
    "coverage": _balls,
    "memorisation": _memorisation,
    "vendi": _vendi,
}
"""What every feature space can measure."""


def _row(comparison: Comparison, metric: str, value: float, note: str | None = None) -> MetricRow:
    notes = [text for text in (note, comparison.extractor.note) if text]
    return replace(comparison.row, metric=metric, value=value, note="; ".join(notes) or None)


def _mean(
    metric: MetricName, comparison: Comparison, values_N: Tensor, note: str, kind: str = "95 %, bootstrap over images"
) -> MetricRow:
    """The mean over images, and how it varies with them."""
    values = values_N.cpu().numpy()
    row = _row(comparison, metric, float(values.mean()), note)
    return _with(row, comparison, lambda: bootstrap_mean(values, comparison.section.seed), kind)


def _jackknifed(row: MetricRow, comparison: Comparison, statistic: Callable[[Tensor], float]) -> MetricRow:
    """`row` with an interval from leaving out tenths of the generated images; distances and scores are not below 0."""

    def interval() -> Interval:
        found = jackknife(comparison.fake_MD, statistic, GROUPS)
        limits = around(row.value, found.standard_error, found.degrees) if found else None
        return (max(limits[0], 0.0), limits[1]) if limits else None

    return _with(row, comparison, interval, f"95 %, jackknife over {GROUPS} groups of generated images")


def _with(row: MetricRow, comparison: Comparison, interval: Callable[[], Interval], kind: str) -> MetricRow:
    limits = interval() if comparison.section.intervals else None
    return replace(row, interval_low=limits[0], interval_high=limits[1], interval_kind=kind) if limits else row


def to_device(features_ND: Tensor, device: torch.device) -> Tensor:
    """Features in float64 where the metrics run."""
    return features_ND.to(device).double()
