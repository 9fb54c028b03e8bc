"""report.json: everything a run has to say, as plain data.

`ReportFacts` is what a run knows and hands over; `Report` adds what the run directory shows (attempts, sample grids).
JSON knows no NaN and no infinity: such a value becomes null, and `non_finite` names it with what it was.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.files import replacing

Outcome = Literal["running", "finished", "interrupted", "diverged", "failed", "cancelled"]
Level = Literal["healthy", "warning", "failure"]


class Model(BaseModel):
    """Frozen, closed, free of non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MetricRow(Model):
    """One metric in one feature space at one evaluation."""

    metric: str
    features: str | None = None
    value: float | None
    images: int | None = Field(None, description="Images shown when it was measured; none for a sanity row")
    samples: int | None = Field(None, description="Generated images that it was measured on")
    real_samples: int | None = None
    interval_low: float | None = None
    interval_high: float | None = None
    interval_kind: str | None = Field(None, description="What the interval is: bootstrap 95 %, subsets, ...")
    resize: str | None = None
    seed: int | None = None
    label: str = Field(
        "", description="What was measured, if not the trained generator: untrained, or a comparison of known answer"
    )
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _note_what_was_not_finite(cls, row: Any) -> Any:
        if isinstance(row, MetricRow):
            return row
        finite, lost = without_non_finite(row)
        if lost:
            said = "; ".join(f"{name} was {value}" for name, value in lost.items())
            finite["note"] = f"{finite['note']}; {said}" if finite.get("note") else said
        return finite


class Verdict(Model):
    """What one failure detector found."""

    detector: str
    verdict: Level
    value: float | None = None
    threshold: float | None = None
    images: int | None = None
    message: str = ""
    hint: str | None = None
    evidence: str | dict[str, Any] | None = Field(
        None, description="A picture's path in the run directory, a sentence, or named numbers"
    )


class Derived(Model):
    """A value of the spec that nobody wrote: a preset or a formula did."""

    path: str
    value: Any
    formula: str


class Precision(Model):
    """The precision a run chose, and why."""

    value: str
    why: str | None = None


class SkippedImage(Model):
    """An image of the data that could not be read."""

    name: str
    reason: str


class DataFacts(Model):
    """What was trained on."""

    kind: str
    path: str | None = None
    images: int = Field(ge=0)
    resolution: int | None = None
    channels: int | None = None
    classes: int | None = None
    skipped: tuple[SkippedImage, ...] = ()
    details: dict[str, Any] = {}


class Modes(Model):
    """How many of a generated set's exactly known modes the samples cover."""

    covered: int = Field(ge=0)
    total: int = Field(ge=1)
    samples: int | None = None
    covered_expected: float | None = Field(None, description="What as many images of the data itself would cover")
    precision: float | None = Field(None, description="Share of samples that show any mode of the data")
    dropped: float | None = Field(None, description="Share of samples that show a mode left out of the data")
    kl: float | None = Field(None, description="KL(samples ‖ data) over the modes, in nats")
    reverse_kl: float | None = Field(None, description="KL(data ‖ samples), smoothed, in nats")
    counts: tuple[int, ...] | None = Field(None, description="Samples in each mode, in the data set's order")
    axes: tuple[int, ...] | None = Field(None, description="Shape of `counts`: (8, 8, 9) for shape, hue, position")


class NearestRow(Model):
    """One generated sample and its nearest training images, nearest first."""

    distances: tuple[float | None, ...]
    neighbours: tuple[str, ...] = Field((), description="Names or indices of the training images")


class Nearest(Model):
    """A sheet of images in the run directory: each row a sample, then its nearest training images."""

    path: str
    features: str
    rows: tuple[NearestRow, ...]
    typical_distance: float | None = Field(None, description="Median distance of a real image to its nearest other one")
    note: str | None = None


class Picture(Model):
    """Any other picture worth showing, by its path in the run directory."""

    path: str
    caption: str


class ExplainedCoordinate(Model):
    """A style coordinate that changes the classifier's mind."""

    layer: str
    channel: int
    towards: str = Field(description="The class that it leads to")
    way: Literal["up", "down"] = Field(description="Moved that way")
    effect: float = Field(description="Mean change of that class's log-odds, over images of other classes")
    two_sided: float = Field(description="Mean of that and of the loss when images of the class are moved back")
    changed_share: float
    picture_change: float = Field(0.0, description="Mean absolute change of the picture in [-1, 1]; mean of both ways")
    score_change: float | None = Field(None, description="Mean absolute change of the discriminator's score")
    attributes: dict[str, float] = Field(
        {}, description="Of data with known attributes: the share of images on which each changes"
    )


class ExplainedImage(Model):
    """A row of the sheet."""

    said: str = Field(description="The classifier's answer on the reconstruction")
    probabilities: tuple[float, ...] = Field(description="Of the shown class, under every picture of the row")


class Explanation(Model):
    """What changes the classifier's mind. A sheet in the run directory: each row an image, its reconstruction, then
    the first coordinates moved down and up."""

    path: str
    class_names: tuple[str, ...]
    shown_class: str
    coordinates: tuple[ExplainedCoordinate, ...]
    shown_coordinates: int
    images: tuple[ExplainedImage, ...]
    explained: int = Field(description="Images that were moved along every coordinate")
    given: int = Field(description="Images before any were left out as unstable or unreal")
    encoded: bool = Field(description="Whether they were real images, and not made from latents")
    strategy: str
    ranked_by: str = "effect"
    flips_independent: tuple[float, ...] = Field((), description="By 1, 2, ... coordinates: share that change class")
    flips_subset: tuple[float, ...] = Field((), description="The same with the coordinates that serve each image best")


class Attempt(Model):
    """One start of the run, up to its end or to the next start."""

    attempt: int
    from_images: int
    to_images: int
    started: float | None = Field(None, description="Unix seconds")
    seconds: float | None = None
    outcome: str
    images_lost: int = Field(0, description="Images shown past the checkpoint that the next attempt went back to")


class SampleGrid(Model):
    """A sample grid on disk."""

    images: int
    path: str


class Checkpoint(Model):
    """A checkpoint on disk."""

    images: int
    path: str
    seconds: float | None = None
    bytes: int | None = None


class Operator(Model):
    """An operator, or a kernel of a GPU, in a profile."""

    name: str
    seconds: float = Field(description="Spent in it and in nothing that it calls")
    share: float = Field(description="Of the seconds of all operators")
    calls: int


class Profile(Model):
    """Some iterations, looked at closely; see `gankiln run --profile`."""

    images: int
    iterations: int
    seconds: float
    waiting_ratio: float = Field(description="Share of `seconds` spent waiting for data")
    operators: tuple[Operator, ...] = ()
    path: str = Field(description="The trace, for chrome://tracing or ui.perfetto.dev")


class ReportFacts(Model):
    """What a run knows about itself when it reports; the rest is read from the run directory."""

    name: str
    recipe: str
    seed: int
    images: int = Field(ge=0, description="Real images shown to the discriminator so far")
    images_planned: int | None = None
    seconds: float = Field(ge=0, description="Training time over all attempts")
    images_per_second: float | None = None
    device: str
    outcome: Outcome = "running"
    outcome_message: str | None = Field(None, description="Why it stopped, where it did not simply finish")
    question: str | None = None
    headline: tuple[str, str] | None = Field(None, description="(metric, features) that opens the report")
    drawn_from: str = Field("latents", description="What the pictures of a grid are made from, the same in every grid")
    metrics: tuple[MetricRow, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    effective: dict[str, Any] = {}
    parameters: dict[str, int] = Field({}, description="Learnable numbers per network")
    precision: Precision | None = None
    accumulation: int | None = Field(None, description="Micro-batches whose gradients are summed in an iteration")
    derived: tuple[Derived, ...] = ()
    data: DataFacts | None = None
    modes: Modes | None = None
    nearest: Nearest | None = None
    explanation: Explanation | None = None
    pictures: tuple[Picture, ...] = ()
    time_seconds: dict[str, float] = Field(
        {},
        description="Where the time from the first to the last step went: training, waiting for data, samples, checks, "
        "evaluation, checkpoints",
    )
    waiting_ratio: float | None = Field(None, description="Share of training time spent waiting for data")
    idle_ratio: float | None = Field(None, description="Share of the time from first to last step not spent in steps")
    idle_ratio_without_evaluation: float | None = Field(None, description="The same, evaluation left out of the time")
    profile: Profile | None = Field(None, description="Read from events.jsonl where empty")
    versions: dict[str, str] = {}
    commands: tuple[str, ...] = Field(
        (), description="How to get this run again; a default is written where none is given"
    )
    trust: tuple[str, ...] = Field((), description="Sentences on how far the numbers can be trusted")
    notes: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = Field((), description="Read from events.jsonl where empty")
    non_finite: dict[str, str] = Field({}, description="Values that JSON cannot hold, by path: nan, inf, -inf")

    @model_validator(mode="before")
    @classmethod
    def _name_what_was_not_finite(cls, facts: Any) -> Any:
        if not isinstance(facts, Mapping):
            return facts
        rows = {"metrics": facts.get("metrics", ())}  # a metric row keeps its own note
        finite, lost = without_non_finite({**facts, **dict.fromkeys(rows)})
        return {**finite, **rows, "non_finite": {**facts.get("non_finite", {}), **lost}}


class Report(ReportFacts):
    """report.json."""

    report_version: Literal[1] = 1
    written: float = Field(description="Unix seconds")
    samples: tuple[SampleGrid, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()

    def write_json(self, path: Path) -> None:
        """Writes `path` whole or not at all."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(path, (text + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `write_json` wrote."""
        return cls.model_validate_json(path.read_bytes())


def without_non_finite(values: Any) -> tuple[Any, dict[str, str]]:
    """A plain copy of nested `values` with NaN and infinities as None, and what those were by their paths."""
    lost: dict[str, str] = {}

    def finite(value: Any, path: str) -> Any:
        value = _plain(value)
        match value:
            case float() if not math.isfinite(value):
                lost[path] = str(float(value))
                return None
            case dict():
                return {key: finite(inner, f"{path}.{key}" if path else str(key)) for key, inner in value.items()}
            case list():
                return [finite(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
            case _:
                return value

    return finite(values, ""), lost


def _plain(value: Any) -> Any:
    """The JSON-like value of dataclasses, named tuples, numpy and torch scalars, paths; one level deep."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    match value:
        case tuple() if hasattr(value, "_asdict"):
            return value._asdict()
        case Mapping():
            return dict(value)
        case tuple() | set() | frozenset():
            return list(value)
        case None | bool() | int() | float() | str() | list() | BaseModel():
            return value
        case _:
            return str(value)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside `path`, then renames: a reader sees the old file or the new one, never half of one."""
    with replacing(path) as aside, aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
