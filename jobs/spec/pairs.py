"""The section `data:` of a recipe that learns from two domains of images.

data: {kind: domains, a: photos, b: paintings.zip, resolution: 256, channels: rgb}
data: {kind: heightmaps, resolution: 64, images: 2000}
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.spec.base import Section
from jobs.spec.data import CHANNEL_COUNT, SHIPPED_PREFIX, DataPath, Resolution, ShardPath


class Domains(Section):
    """Two directories or zips of images. Paired ones have the same names in both, but for the suffix."""

    kind: Literal["domains"] = "domains"
    a: DataPath = Field(description="Domain A: a directory, or a zip, relative to the spec")
    b: DataPath = Field(description="Domain B: likewise")
    paired: bool = Field(
        False, description="Each image of A has its counterpart in B, of the same name; both are needed"
    )
    resolution: Resolution = Field(description="Width and height of the images in pixels: a power of two")
    channels: Literal["grey", "rgb", "rgba"] = "rgb"
    fit: Literal["crop", "pad", "stretch"] = Field("crop", description="How an image becomes square")
    crop_from: int | None = Field(
        None, ge=4, le=2048,
        description="Decode at this size and show random squares of `resolution` (CycleGAN: 286 for 256)",
    )  # fmt: skip
    mirror: bool = Field(False, description="Flip half of the images left to right; pairs together")
    max_images: int | None = Field(None, ge=2, description="Of each domain, evenly spread; default all")

    @property
    def has_pairs(self) -> bool:
        """Whether the translation of an image is known."""
        return self.paired

    @model_validator(mode="after")
    def _room_to_crop(self) -> Self:
        if self.crop_from is not None and self.crop_from < self.resolution:
            raise ValueError(f"crop_from {self.crop_from} is smaller than the resolution of {self.resolution}")
        for path in (self.a, self.b):
            if path.startswith(SHIPPED_PREFIX):
                raise ValueError(f"{path!r}: no pair of domains comes with gankiln")
        return self


class HeightMaps(Section):
    """A generated pair of domains whose translation is exactly known.

    A: a wall of panels, bricks and bumps, coloured and lit from the upper left, with a cut-out in alpha.
    B: its normals in red, green and blue, its height in alpha. Cut-outs have height 0 and face the viewer.
    """

    kind: Literal["heightmaps"] = "heightmaps"
    resolution: Literal[32, 64, 128, 256] = Field(64, description="Width and height in pixels")
    channels: Literal["rgba"] = Field("rgba", description="Always rgba")
    mirror: Literal[False] = Field(False, description="Always false: a mirrored normal is another normal")
    images: int = Field(2000, ge=4, le=1_000_000, description="Pairs to train on; shown unpaired unless recipe.paired")
    test_images: int = Field(256, ge=4, le=100_000, description="Further pairs, to measure on")
    seed: int = Field(0, ge=0, lt=2**63, description="The same seed draws the same images")

    @property
    def has_pairs(self) -> bool:
        """Whether the translation of an image is known."""
        return True


class Shards(Section):
    """Two large domains, each a directory of plain tar files of images ("shards"), read where they lie, or brought from
    a bucket one by one while the job trains. Or one directory of pairs: KEY.a.png beside KEY.b.png in the same shard.
    """

    kind: Literal["shards"] = "shards"
    a: ShardPath = Field(description="Domain A: a directory of *.tar, relative to the spec")
    b: ShardPath | None = Field(
        None,
        description="Domain B: likewise. Left out: the shards of `a` hold pairs, each image named KEY.a.SUFFIX or "
        "KEY.b.SUFFIX",
    )
    paired: bool = Field(
        False,
        description="Each image of A has its counterpart in B: of the same name in the shard of the same name, or of "
        "the same key",
    )
    resolution: Resolution = Field(description="Width and height of the images in pixels: a power of two")
    channels: Literal["grey", "rgb", "rgba"] = "rgb"
    fit: Literal["crop", "pad", "stretch"] = Field("crop", description="How an image becomes square")
    mirror: bool = Field(False, description="Flip half of the images left to right")
    window: int = Field(
        4096, ge=1, le=1_000_000, description="Images are shuffled within so many neighbours; shards are shuffled too"
    )

    @property
    def has_pairs(self) -> bool:
        """Whether the translation of an image is known."""
        return self.paired

    @model_validator(mode="after")
    def _pairs_lie_together(self) -> Self:
        if self.b is None and not self.paired:
            raise ValueError("without b the shards of a hold pairs: set paired to true, or write b")
        return self


TranslationData = Annotated[Domains | HeightMaps | Shards, Field(discriminator="kind")]


def channel_count(data: Domains | HeightMaps | Shards) -> int:
    """Numbers a pixel."""
    return CHANNEL_COUNT[data.channels]
