"""The section `data:` of a recipe that learns to continue drawings: what was drawn, part by part, and in which order.

    data: {kind: toybirds, part: eye, partial: others, resolution: 16}

A drawing is a stack of rasters, one a part, and the order in which its parts were drawn. An example is a drawing that
has `part`: the generator is given what was drawn so far and continues with `part`. Strokes live on a canvas of 512,
as DoodlerGAN's do; lengths below are in its units.
"""

from abc import abstractmethod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.spec.base import Section
from jobs.spec.data import DataPath, Resolution

BIRD_PARTS = ("initial", "eye", "head", "body", "beak", "legs", "wings", "mouth", "tail")
CREATURE_PARTS = (
    "initial", "eye", "arms", "beak", "mouth", "body", "ears", "feet", "fin", "hair", "hands", "head", "horns", "legs",
    "nose", "paws", "tail", "wings",
)  # fmt: skip
TOYBIRD_PARTS = ("initial", "eye", "head", "body", "beak", "legs", "wings", "tail")

PartName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Factor = Annotated[float, Field(gt=0, le=4)]


class Augment(Section):
    """Every example is drawn anew from its strokes, changed at random; nothing by default (DoodlerGAN: 15 degrees,
    1 %, 0.9 to 1.1; its large augmentation: 45 degrees, 5 %, 0.75 to 1.25, line width 0.25 to 1.25)."""

    rotate_degrees: float = Field(0.0, ge=0, le=180, description="Largest rotation, either way")
    shift: float = Field(0.0, ge=0, le=0.5, description="Largest shift, either way, as a share of the canvas")
    scale: tuple[Factor, Factor] = Field((1.0, 1.0), description="Smallest and largest factor of size")
    line_width: tuple[Factor, Factor] = Field((1.0, 1.0), description="Smallest and largest factor of the line width")

    @property
    def any(self) -> bool:
        """Whether anything is changed at all."""
        return self != Augment()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, (low, high) in (("scale", self.scale), ("line_width", self.line_width)):
            if low > high:
                raise ValueError(f"{name}: the smallest factor {low} is larger than the largest, {high}")
        return self


class _Drawings(Section):
    """What every kind of drawings has in common."""

    part: PartName = Field(description="The part that is learned: its generator continues what was drawn before it")
    partial: Literal["before", "others", "random"] = Field(
        "before",
        description="What the generator is given. before: the parts drawn before it. others: every other part. "
        "random: each other part half of the time, drawn anew for every example",
    )
    resolution: Resolution = Field(description="Width and height of the rasters in pixels: a power of two")
    channels: Literal["grey"] = Field("grey", description="Always grey: ink on paper")
    mirror: bool = Field(False, description="Show every drawing flipped left to right half of the time")
    labels: Literal[False] = Field(False, description="Always false: a part is one class")

    @property
    @abstractmethod
    def part_names(self) -> tuple[str, ...]:
        """Every part, in the order of the stack."""

    @model_validator(mode="after")
    def _part_is_known(self) -> Self:
        names = self.part_names
        if self.part not in names:
            raise ValueError(f"part: {self.part!r} is none of {', '.join(names)}")
        return self


class _Strokes(_Drawings):
    """Drawings that are known stroke by stroke."""

    line_width: float = Field(16.0, gt=0, le=64, description="Width of a line on the canvas of 512")
    augment: Augment = Augment()


class ToyBirds(_Strokes):
    """A generated set with exactly known geometry: birds of eight parts, of random size and pose, facing left or right.

    Where the head is, which way it looks and where the body ends is known of every bird, so that a continuation can be
    judged exactly: is the eye in the head, does the beak point forward, do the legs hang on the body?
    """

    kind: Literal["toybirds"] = "toybirds"
    line_width: float = Field(24.0, gt=0, le=64, description="Width of a line on the canvas of 512")
    drawings: int = Field(4000, ge=1, le=1_000_000, description="How many birds")
    seed: int = Field(0, ge=0, lt=2**63, description="The same seed draws the same birds")
    order: Literal["eye_first", "random"] = Field(
        "random", description="After the initial stroke: the eye, then the others at random; or all at random"
    )

    @property
    def part_names(self) -> tuple[str, ...]:
        return TOYBIRD_PARTS


class DoodlerStrokes(_Strokes):
    """Strokes in the JSON of DoodlerGAN's creative birds and creatures (Ge et al. 2021).

    A file of lines {output: {all_strokes, partsUsed}} with one drawing each, as they were collected; or a directory of
    files {input_parts, target_part}, one example of `part` each, as its preparation writes them.
    """

    kind: Literal["doodler"] = "doodler"
    path: DataPath = Field(description="The file or the directory, relative to the spec")
    parts: Literal["birds", "creatures"] = Field("birds", description="Which list of parts: 9 or 18")
    max_drawings: int | None = Field(None, ge=1, description="Use at most so many, spread evenly over the set")

    @property
    def part_names(self) -> tuple[str, ...]:
        return BIRD_PARTS if self.parts == "birds" else CREATURE_PARTS


class QuickDraw(_Strokes):
    """Strokes in the ndjson of Quick, Draw!: one drawing a line, raw or simplified. Its parts are its strokes by
    number: stroke1, stroke2 ...; strokes beyond the last part are not drawn."""

    kind: Literal["quickdraw"] = "quickdraw"
    path: DataPath = Field(description="The .ndjson file, relative to the spec")
    strokes: int = Field(8, ge=2, le=32, description="How many strokes of a drawing are parts")
    recognized_only: bool = Field(True, description="Leave out drawings that the game did not recognise")
    max_drawings: int | None = Field(None, ge=1, description="Use at most so many, spread evenly over the set")

    @property
    def part_names(self) -> tuple[str, ...]:
        return tuple(f"stroke{number}" for number in range(1, self.strokes + 1))


class PartStacks(_Drawings):
    """Rasters of parts in a zip, as `gankiln data make toybirds` writes them.

    DRAWING/NN-PART.png is one part of one drawing: dark ink on light paper, NN its place in the order of drawing.
    """

    kind: Literal["stacks"] = "stacks"
    path: DataPath = Field(description="The zip, relative to the spec")
    parts: tuple[PartName, ...] = Field(min_length=2, max_length=64, description="Every part there is, in any order")
    max_drawings: int | None = Field(None, ge=1, description="Use at most so many, spread evenly over the set")

    @property
    def part_names(self) -> tuple[str, ...]:
        return self.parts


SketchData = Annotated[ToyBirds | DoodlerStrokes | QuickDraw | PartStacks, Field(discriminator="kind")]
StrokeData = ToyBirds | DoodlerStrokes | QuickDraw
