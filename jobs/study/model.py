"""study.json: the whole comparison as plain data."""

from typing import Any, Literal

from pydantic import Field

from jobs.report.model import Model
from jobs.study.results import State
from jobs.study.statistics import Side


class Estimate(Model):
    """One metric of a variant against the baseline, over paired seeds."""

    metric: str
    features: str | None
    better: Literal["lower", "higher", "unknown"]
    seeds: int = Field(description="Pairs: seeds for which both have a value")
    variant_mean: float
    baseline_mean: float
    difference: float = Field(description="Variant minus baseline")
    interval_low: float | None = Field(None, description="95 %: the wider of the two intervals below")
    interval_high: float | None = None
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    student_low: float | None = None
    student_high: float | None = None
    p_value: float | None = Field(None, description="Paired t-test")
    p_corrected: float | None = Field(None, description="Of the primary metric: corrected by Holm over all variants")
    effect: float | None = Field(None, description="Hedges' g of the paired differences")
    wins: int | None = Field(None, description="Seeds in which the variant is better; unknown where better is")
    seeds_needed: int | None = Field(None, description="For 80 % power, if the truth is what was seen; at most 1,000")
    side: Side = Field(description="better and worse are only said where the interval holds no zero")


class RunRow(Model):
    """One run."""

    seed: int
    state: State
    place: str = Field(description="Directory below the study's, or id of the job")
    images: int
    seconds: float
    value: float | None = Field(None, description="The primary metric")
    message: str = ""


class VariantRow(Model):
    """One variant with all its runs."""

    name: str
    changes: dict[str, Any] = Field(description="Dotted path -> value, as the study says")
    differences: dict[str, tuple[Any, Any]] = Field(
        {}, description="Dotted path -> (baseline, here) after every default and formula: what changed along too"
    )
    runs: tuple[RunRow, ...]
    mean: float | None = Field(None, description="Of the primary metric")
    deviation: float | None = None
    primary: Estimate | None = None
    others: tuple[Estimate, ...] = ()
    verdicts: dict[str, dict[str, int]] = Field({}, description="Detector -> level -> runs that ended with it")
    images: int = 0
    seconds: float = 0.0
    sentence: str = ""


class TrialRow(Model):
    """One trial of a search."""

    number: int
    values: dict[str, Any]
    state: State
    value: float | None = Field(None, description="The primary metric at the end, or where it was pruned")
    images: int = 0
    seconds: float = 0.0


class SearchRow(Model):
    """A search."""

    space: dict[str, Any]
    planned: int
    seed: int = Field(description="Of every trial, and of the baseline beside them")
    baseline: float | None = Field(None, description="The primary metric of the baseline with that seed")
    best: int | None = Field(None, description="Number of the best trial so far")
    trials: tuple[TrialRow, ...] = ()


class StudyReport(Model):
    """study.json."""

    study_version: Literal[1] = 1
    name: str
    question: str | None
    answer: str = Field(description="One sentence; it begins with `So far` while runs are open")
    metric: str
    features: str | None
    better: Literal["lower", "higher"]
    seeds: tuple[int, ...]
    complete: bool
    runs: dict[str, int] = Field(description="State -> how many")
    best_value: float | None = Field(None, description="Of the primary metric, over all finished runs")
    best_variant: str | None = None
    images: int = Field(description="Real images shown over all runs")
    seconds: float = Field(description="Training time over all runs")
    variants: tuple[VariantRow, ...] = Field(description="The baseline first")
    search: SearchRow | None = None
    notes: tuple[str, ...] = ()
    written: float = Field(description="Unix seconds")
