"""How a learning rate falls, written as what it does: nobody takes "a decay of 2 %" for "times 0.02"."""

from typing import Annotated, Literal, assert_never

from pydantic import Field

from jobs.spec.base import Section

Share = Annotated[float, Field(gt=0, lt=1)]


class Constant(Section):
    """The learning rate stays."""

    kind: Literal["constant"] = "constant"


class Linear(Section):
    """The learning rate stays until `start_images`, then falls evenly to 0 at `end_images` (CycleGAN)."""

    kind: Literal["linear"] = "linear"
    start_images: int | None = Field(None, ge=0, description="Default: half of the run")
    end_images: int | None = Field(None, ge=1, description="Default: the end of the run")


class LowerBy(Section):
    """Every `every_images` the learning rate loses this share of itself: 0.02 leaves 98 %."""

    kind: Literal["lower_by"] = "lower_by"
    share: Share
    every_images: int = Field(ge=1)


class MultiplyBy(Section):
    """Every `every_images` the learning rate is multiplied by this: 0.02 leaves 2 %."""

    kind: Literal["multiply_by"] = "multiply_by"
    factor: Share
    every_images: int = Field(ge=1)


Decay = Annotated[Constant | Linear | LowerBy | MultiplyBy, Field(discriminator="kind")]


def factor(decay: Decay, images: int) -> float:
    """What the learning rate at the start is multiplied by after `images`."""
    match decay:
        case Constant():
            return 1.0
        case Linear(start_images=start, end_images=end):
            assert start is not None and end is not None, "a resolved spec"
            return 1.0 - min(max(images - start, 0) / max(end - start, 1), 1.0)
        case LowerBy(share=share, every_images=every):
            return float((1 - share) ** (images // every))
        case MultiplyBy(factor=by, every_images=every):
            return float(by ** (images // every))
        case _:
            assert_never(decay)


def sentence(decay: Decay, images: int) -> str:
    """In words, for a run of `images`."""
    end = f"{factor(decay, images):.3g} of the start at the end of the run"
    match decay:
        case Constant():
            return "stays"
        case Linear(start_images=start, end_images=stop):
            return f"stays until {start:,} images, then falls evenly to 0 at {stop:,}; {end}"
        case LowerBy(share=share, every_images=every):
            return f"loses {share:.3g} of itself every {every:,} images; {end}"
        case MultiplyBy(factor=by, every_images=every):
            return f"is multiplied by {by:.3g} every {every:,} images; {end}"
        case _:
            assert_never(decay)
