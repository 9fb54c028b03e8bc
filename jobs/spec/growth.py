"""Growing networks and decaying quantities: pure functions of the images shown, so that a run resumes mid-fade exactly.

`timetable(section, resolution, batch)` says at any image count which resolution is trained, how far its new layers
have faded in, and since when; `Decaying.at` says what a decaying quantity is then.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from jobs.spec.base import Section
from jobs.spec.data import Resolution

StartResolution = Annotated[Resolution, Field(le=1024)]


class NoGrowth(Section):
    """Every layer is trained from the beginning, at the resolution of the data."""

    kind: Literal["none"] = "none"


class Phases(Section):
    """Stabilise, fade, stabilise, fade ... (Karras et al. 2018, figure 2: as many images in each phase)."""

    kind: Literal["phases"] = "phases"
    start_resolution: StartResolution = 4
    unit: Literal["images", "iterations"] = Field("images", description="What the three lengths below count")
    stabilise: int | None = Field(
        None, ge=0, description="At the start resolution; default: training.images in equal phases"
    )
    fade: int | None = Field(None, ge=1, description="While a new resolution fades in; default: as `stabilise`")
    hold: int | None = Field(
        None, ge=0, description="After a fade, before the next resolution; default: as `stabilise`"
    )


class Increments(Section):
    """The notes' way: alpha rises by `increment` every `every` iterations, also at the start resolution, where it is
    not used; `hold` iterations after it has reached 1 the next resolution begins."""

    kind: Literal["increments"] = "increments"
    start_resolution: StartResolution = 4
    initial: float = Field(1e-5, ge=0, lt=1, description="alpha at the beginning of each resolution")
    increment: float = Field(1e-3, gt=0, le=1)
    every: int = Field(5, ge=1, description="Iterations between two increments; the notes say 1, their code 5")
    hold: int = Field(8, ge=0, description="Iterations at alpha 1 before the next resolution")


Growth = Annotated[NoGrowth | Phases | Increments, Field(discriminator="kind")]


class Moment(NamedTuple):
    """Where a growing run is."""

    resolution: int
    level: int
    """0 at 4x4, 1 at 8x8 ..."""
    alpha: float
    """Share of the new layers, 1 where nothing fades."""
    since_images: int
    """Images since this resolution began."""
    fading: bool


@dataclass(frozen=True)
class Timetable:
    """When each resolution begins and how it fades in. All lengths are in images."""

    batch: int
    begins: tuple[int, ...]
    """By resolution, the start resolution (0) first."""
    start_level: int
    fade_images: int
    increments: Increments | None = None
    """How alpha rises; None: evenly, neither 0 nor 1 while it fades, so that all layers learn."""

    def at(self, images: int) -> Moment:
        """Where the run is after `images` images."""
        number = max(index for index, begin in enumerate(self.begins) if begin <= images)
        since = images - self.begins[number]
        level = self.start_level + number
        alpha = 1.0 if number == 0 else self._alpha(since)
        return Moment(4 << level, level, alpha, since, number > 0 and since < self.fade_images)

    def grows(self, images: int) -> bool:
        """Whether the step at `images` is the first at a new resolution."""
        return images in self.begins[1:]

    def stages(self) -> tuple[int, ...]:
        """Image counts that between them train every layer: the beginning, and the middle of each fade."""
        middle = self.fade_images // 2 // self.batch * self.batch
        return (0, *(begin + middle for begin in self.begins[1:]))

    @property
    def ends(self) -> int:
        """When the last resolution has faded in."""
        return self.begins[-1] + (self.fade_images if len(self.begins) > 1 else 0)

    def _alpha(self, since: int) -> float:
        if since >= self.fade_images:
            return 1.0
        if self.increments is None:
            return (since + self.batch) / (self.fade_images + self.batch)
        steps = since // (self.increments.every * self.batch)
        return min(self.increments.initial + steps * self.increments.increment, 1.0)


def timetable(section: NoGrowth | Phases | Increments, resolution: int, batch: int) -> Timetable:
    """The timetable of a resolved section, towards `resolution`, in whole batches."""
    last = level_of(resolution)
    match section:
        case NoGrowth():
            return Timetable(batch, (0,), last, 0)
        case Phases():
            assert section.stabilise is not None and section.fade is not None and section.hold is not None
            unit = batch if section.unit == "iterations" else 1
            first, fade, hold = (
                -(-length * unit // batch) * batch for length in (section.stabilise, section.fade, section.hold)
            )
            return _spaced(batch, level_of(section.start_resolution), last, (first, fade, fade + hold))
        case Increments():
            steps = -(-(1 - section.initial) // section.increment)  # until alpha has reached 1
            fade = int(steps) * section.every * batch
            each = fade + section.hold * batch
            spaced = _spaced(batch, level_of(section.start_resolution), last, (each, fade, each))
            return replace(spaced, increments=section)


def _spaced(batch: int, start: int, last: int, lengths: tuple[int, int, int]) -> Timetable:
    """Resolutions start..last: the first for lengths[0], each other for lengths[2], fading for lengths[1]."""
    first, fade, each = lengths
    begins = (0, *(first + number * each for number in range(last - start)))
    return Timetable(batch, begins, start, fade)


def level_of(resolution: int) -> int:
    """0 for 4, 1 for 8 ..."""
    return resolution.bit_length() - 3


class Decaying(Section):
    """A quantity that may shrink, on a stated clock."""

    start: float = Field(0.0, ge=0, description="Its value at the beginning of the clock")
    decay: Literal["none", "linear", "exponential", "harmonic"] = Field(
        "none",
        description="linear: to 0 after `over`. exponential: halved every `over`. harmonic: start / (1 + t / over)",
    )
    clock: Literal["global", "growth"] = Field(
        "growth", description="global: t counts from the start of the run. growth: from the last growth"
    )
    over: int | None = Field(None, ge=1, description="In `unit`; needed unless decay is none")
    unit: Literal["images", "iterations"] = "images"

    def at(self, images: int, moment: Moment, batch: int) -> float:
        """Its value at the step after `images` images."""
        elapsed = images if self.clock == "global" else moment.since_images
        if self.decay == "none":
            return self.start
        assert self.over is not None, "a checked spec"
        share = elapsed / (self.over * (batch if self.unit == "iterations" else 1))
        match self.decay:
            case "linear":
                return self.start * max(1 - share, 0.0)
            case "exponential":
                return float(self.start * 0.5**share)
            case "harmonic":
                return self.start / (1 + share)
