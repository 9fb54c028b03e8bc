"""The section `study:`: what is changed in the job around it, with which seeds, and by which number it is judged.

A study is a job spec and this section. The job as it is written is the baseline; every variant is the job with some
values changed, by dotted paths such as `recipe.r1.gamma`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from jobs.spec.base import Section
from jobs.spec.job import NAME_PATTERN, Job

Better = Literal["lower", "higher"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
VariantName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=40)]
DottedPath = Annotated[str, StringConstraints(min_length=1, max_length=300)]
BASELINE = "baseline"
MOST_RUNS = 1000

BETTER: Mapping[str, Better] = {
    **dict.fromkeys(("fid", "fd", "kid", "spectrum_gap", "ppl_z", "ppl_w", "mode_kl", "mode_reverse_kl"), "lower"),
    **dict.fromkeys(("precision", "recall", "density", "coverage", "classifier_score"), "higher"),
    **dict.fromkeys(("modes_covered", "mode_precision"), "higher"),
    **dict.fromkeys(("l1", "lpips", "alpha_error", "holes", "hole_area", "feature_peak"), "lower"),
    **dict.fromkeys(("eye_in_head", "eye_in_head_gap", "beak_direction", "beak_direction_gap"), "higher"),
    **dict.fromkeys(("leg_distance", "attachment_distance"), "lower"),
    **dict.fromkeys(("psnr", "ssim", "ms_ssim", "detail"), "higher"),
}
"""Which way is better, where the metric alone says it."""


class Primary(Section):
    """The one number by which variants are judged; all others are reported beside it."""

    metric: str | None = Field(
        None, max_length=100, description="As in `evaluation.metrics`, or one that the recipe adds; default: the first"
    )
    features: str | None = Field(
        None, max_length=100, description="Its feature space; default: the last of `evaluation.features`"
    )
    better: Better | None = Field(None, description="Default: what the metric says, where it says it")


class Budget(Section):
    """What the whole study may cost."""

    images: int | None = Field(
        None, ge=1, description="Real images shown over all runs; a plan that needs more is refused, a search stops"
    )
    gpu_hours: float | None = Field(
        None, gt=0, description="Training hours over all runs; when they are spent, no further run is started"
    )


class Range(Section):
    """Numbers that a search draws from."""

    low: float
    high: float
    log: bool = Field(False, description="Draw the logarithm evenly: for values of unknown size")
    whole: bool = Field(False, description="Whole numbers only")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}: low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low:g}: a logarithmic range begins above 0")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("whole: low and high must be whole numbers")
        return self


class Search(Section):
    """Trials whose values follow from what the earlier ones reached (Optuna, ask-and-tell)."""

    space: dict[DottedPath, Range | Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        min_length=1, description="Path -> a range `{low, high, log, whole}`, or a list of values to choose from"
    )
    trials: int = Field(ge=1, le=MOST_RUNS, description="How many, the baseline not counted")
    sampler: Literal["tpe", "random"] = Field("tpe", description="Tree-structured Parzen estimator, or blind chance")
    prune: Literal["none", "median", "halving"] = Field(
        "none",
        description="Stop a trial at an evaluation (`evaluation.every_images`) where it is worse than the median of "
        "the others, or not among the best third (successive halving)",
    )
    startup_trials: int = Field(5, ge=1, description="Trials drawn blindly, and never pruned, before the others")
    parallel: int = Field(1, ge=1, le=100, description="Trials that may run at once, on as many workers")
    finalists: int = Field(
        1, ge=0, le=10, description="Best trials that are run again with the seeds of the study, beside the baseline"
    )


def _only_once(seeds: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if isinstance(seeds, tuple) and len(set(seeds)) < len(seeds):
        raise ValueError("a seed is listed more than once")
    return seeds


class Study(Section):
    """One question: a baseline, variants of it, seeds, and the number that answers."""

    question: str | None = Field(None, max_length=2000, description="In words; default: the job's own")
    ablate: dict[DottedPath, Any] = Field(
        {}, description="Path -> another value, or a list of them: each alone is one variant, so one change at a time"
    )
    grid: dict[DottedPath, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        {}, description="Path -> values: every combination is one variant"
    )
    list: dict[VariantName, dict[DottedPath, Any]] = Field(
        {}, description="Name -> (path -> value): variants of any number of changes"
    )
    search: Search | None = Field(None, description="Values that are searched for")
    seeds: (
        Annotated[int, Field(ge=1, le=100)]
        | Annotated[tuple[Seed, ...], Field(min_length=1, max_length=100), AfterValidator(_only_once)]
    ) = Field(
        3,
        description="Seeds of every variant: a list, or how many, counted from the job's `seed` (in a search from the "
        "one after it: trials run with `seed`, and the finalists with others)",
    )
    primary: Primary = Primary()
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.ablate or self.grid or self.list or self.search):
            raise ValueError("nothing is changed: write at least one of ablate, grid, list, search")
        if BASELINE in self.list:
            raise ValueError(f"list: {BASELINE} is the job as it is written; give the variant another name")
        return self


class StudySpec(Job):
    """A job and what is changed in it."""

    study: Study
