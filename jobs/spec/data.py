"""The section `data:` of a recipe that learns still images: where they are and what shape they take.

    data: {kind: zip, path: "shipped:fashion-mnist-5000", resolution: 32, channels: grey, fit: pad, labels: true}

`resolution`, `channels`, `mirror` and `labels` mean the same in every kind. Whatever the files hold, the network sees
square images of `resolution` pixels with 8 bits a channel; `fit` says how others become square.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from jobs.spec.base import InputFile, Section

SHIPPED_PREFIX = "shipped:"
SHIPPED_SETS = ("fashion-mnist-5000",)
"""Sets that come with gankiln, all of them zips; `shipped:NAME` is their path."""

REMOTE_PREFIX = "s3://"
"""An address that a worker fetches before the job starts; the job finds it at s3/bucket/key, as a relative path."""

CHANNEL_COUNT = {"grey": 1, "rgb": 3, "rgba": 4}


def _power_of_two(resolution: int) -> int:
    if resolution & (resolution - 1):
        below = 1 << (resolution.bit_length() - 1)
        raise ValueError(f"{resolution} is not a power of two: use {below} or {min(2 * below, 1024)}")
    return resolution


def _readable_path(path: str) -> str:
    if not path.isprintable():
        raise ValueError("a path is made of printable characters")
    if "://" in path and not path.startswith(REMOTE_PREFIX):
        raise ValueError(f"{path!r} is an address, and not of the one kind that a worker fetches: s3://bucket/key")
    name = path.removeprefix(SHIPPED_PREFIX)
    if path.startswith(SHIPPED_PREFIX) and name not in SHIPPED_SETS:
        raise ValueError(f"no set named {name!r} comes with gankiln; there is {', '.join(SHIPPED_SETS)}")
    return path


Resolution = Annotated[int, Field(ge=4, le=1024), AfterValidator(_power_of_two)]
DataPath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_readable_path), InputFile()]
ShardPath = Annotated[
    str, Field(min_length=1, max_length=4096), AfterValidator(_readable_path), InputFile(streamed=True)
]
Share = Annotated[float, Field(ge=0, lt=1)]


class _Files(Section):
    """What every kind of data that is read from files has in common."""

    resolution: Resolution = Field(description="Width and height of the images in pixels: a power of two")
    channels: Literal["grey", "rgb", "rgba"] = Field(
        "rgb", description="What a pixel holds; grey is luma (BT.601), and rgb or grey show transparency over white"
    )
    fit: Literal["crop", "pad", "stretch"] = Field(
        "crop",
        description="How an image becomes square. crop: scale the shorter side, keep the middle. pad: scale the longer "
        "side down (never up) and put zeros around it. stretch: scale both sides, whatever the aspect",
    )
    mirror: bool = Field(False, description="Show every image flipped left to right half of the time")
    labels: bool = Field(False, description="Read the class of every image too; an image without one is an error")
    against_rest: str | None = Field(
        None, min_length=1, max_length=200, description="Two classes only: the one of this name or number, and the rest"
    )
    balance: bool = Field(
        False, description="Show every class equally often: an epoch repeats images of the smaller classes"
    )
    max_images: int | None = Field(
        None, ge=1, description="Use at most so many images, spread evenly over the set in the order of names"
    )

    @model_validator(mode="after")
    def _classes_have_labels(self) -> Self:
        for name in ("against_rest", "balance"):
            if getattr(self, name) and not self.labels:
                raise ValueError(f"{name} needs the classes of the images: set labels to true")
        return self


class ImageFolder(_Files):
    """A directory of images, sub-directories included."""

    kind: Literal["folder"] = "folder"
    path: DataPath = Field(
        description="The directory, relative to the spec. Labels: its dataset.json, else the names of its sub-folders"
    )

    @field_validator("path")
    @classmethod
    def _no_zip(cls, path: str) -> str:
        if path.startswith(SHIPPED_PREFIX) or path.lower().endswith(".zip"):
            raise ValueError(f"{path!r} is a zip: write kind: zip")
        return path


class ImageZip(_Files):
    """A zip of images as StyleGAN's dataset tool writes it; labels in dataset.json: {labels: [[name, class], ...]}."""

    kind: Literal["zip"] = "zip"
    path: DataPath = Field(description='The archive, relative to the spec, or "shipped:fashion-mnist-5000"')


class IdxFiles(_Files):
    """Images in one IDX file, as MNIST has them; plain or gzip."""

    kind: Literal["idx"] = "idx"
    images: DataPath = Field(description="The file of images: unsigned bytes [N, height, width], relative to the spec")
    labels_file: DataPath | None = Field(None, description="The file of labels, [N]; needed if labels is true")

    @model_validator(mode="after")
    def _labels_have_a_file(self) -> Self:
        if self.labels and self.labels_file is None:
            raise ValueError("labels: true needs labels_file, the IDX file that holds them")
        for path in (self.images, self.labels_file):
            if path is not None and path.startswith(SHIPPED_PREFIX):
                raise ValueError(f"{path!r} is a zip: write kind: zip")
        return self


class ModeGrid(Section):
    """A generated set with exactly countable modes: shapes x hues x positions, one coloured shape on black.

    Mode number = (shape · hues + hue) · positions + position. The modes are equally frequent. The defaults give 576
    modes of 32x32 pixels; lengths below are in pixels of a 32x32 image and scale with `resolution`.
    """

    kind: Literal["modegrid"] = "modegrid"
    resolution: Literal[32, 64] = Field(
        32, description="Width and height in pixels; smaller shapes could not be told apart"
    )
    channels: Literal["rgb"] = Field("rgb", description="Always rgb: hue is one of the factors")
    mirror: Literal[False] = Field(False, description="Always false: a mirror image is another mode")
    labels: bool = Field(False, description="Give the number of the mode as class")
    images: int = Field(20_000, ge=1, le=10_000_000, description="How many to draw")
    seed: int = Field(0, ge=0, lt=2**63, description="The same seed draws the same images")
    shapes: int = Field(8, ge=1, le=8, description="How many of the eight shapes")
    hues: int = Field(8, ge=1, le=8, description="How many hues, spread evenly over the circle")
    positions: int = Field(9, ge=1, le=9, description="How many cells of the 3 x 3 grid, the middle one first")
    jitter: Literal[0, 1] = Field(1, description="Largest shift from the middle of the cell, in pixels, either way")
    scale_jitter: float = Field(0.1, ge=0, le=0.1, description="Sizes are 1 - this, 1 and 1 + this")
    dropped_modes: Share | tuple[Annotated[int, Field(ge=0)], ...] = Field(
        0.0, description="Modes left out, to make a set with known holes: a share (drawn by seed) or their numbers"
    )

    @property
    def modes(self) -> int:
        """All modes of the grid, the dropped ones included."""
        return self.shapes * self.hues * self.positions

    @property
    def dropped_count(self) -> int:
        """How many modes are left out."""
        dropped = self.dropped_modes
        return round(dropped * self.modes) if isinstance(dropped, float) else len(set(dropped))

    @model_validator(mode="after")
    def _every_mode_appears(self) -> Self:
        if not isinstance(self.dropped_modes, float) and any(mode >= self.modes for mode in self.dropped_modes):
            raise ValueError(f"dropped_modes has {max(self.dropped_modes)}, but the modes are 0 to {self.modes - 1}")
        kept = self.modes - self.dropped_count
        if kept == 0:
            raise ValueError(f"dropped_modes leaves none of the {self.modes} modes")
        if self.images < kept:
            raise ValueError(
                f"images: {self.images} images cannot show {kept} modes; ask for {kept} or more, or for fewer shapes, "
                "hues or positions"
            )
        return self


Attribute = Literal["hue", "size", "stripes", "eye", "background", "rotation"]
ATTRIBUTE_LEVELS: dict[Attribute, int] = {"hue": 6, "size": 4, "stripes": 4, "eye": 2, "background": 4, "rotation": 4}
"""How many levels each attribute has: 0, 1, ... Always even, so that the two classes are equally frequent."""


class PlantedAttributes(Section):
    """A generated set with six independent attributes, and a label that depends on two of them by a known rule.

    A striped oval body with or without an eye on a grey ground. With u = level / (levels - 1) of the two causal
    attributes a and b, the class is 1 where u_a + u_b > 1, and where u_a + u_b = 1 with u_a > 1/2; a is the one with
    more levels, or the first. What explains a classifier of these classes is therefore known exactly; there are 3,072
    different images.
    """

    kind: Literal["planted_attributes"] = "planted_attributes"
    resolution: Literal[32, 64] = Field(32, description="Width and height in pixels; finer stripes could not be told")
    channels: Literal["rgb"] = Field("rgb", description="Always rgb: hue is one of the attributes")
    mirror: Literal[False] = Field(False, description="Always false: a mirror image has another rotation")
    labels: bool = Field(True, description="Give the class by the rule")
    images: int = Field(20_000, ge=1, le=10_000_000, description="How many to draw")
    seed: int = Field(0, ge=0, lt=2**63, description="The same seed draws the same images")
    causal: tuple[Attribute, Attribute] = Field(
        ("size", "eye"), description="The two attributes that the class depends on"
    )

    @model_validator(mode="after")
    def _two_causes(self) -> Self:
        if self.causal[0] == self.causal[1]:
            raise ValueError(f"causal names {self.causal[0]} twice; the rule needs two different attributes")
        return self


ImageData = Annotated[ImageFolder | ImageZip | IdxFiles | ModeGrid | PlantedAttributes, Field(discriminator="kind")]
