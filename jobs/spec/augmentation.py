"""The section `augmentation`: what is done to images, real and generated, before the discriminator sees them."""

from typing import Annotated, Literal

from pydantic import Field

from jobs.spec.base import Section

Probability = Annotated[float, Field(ge=0, le=1)]


class DiffAugment(Section):
    """Always on, weak, and differentiable (Zhao et al. 2020)."""

    kind: Literal["diffaugment"] = "diffaugment"
    policy: tuple[Literal["color", "translation", "cutout"], ...] = Field(
        ("color", "translation", "cutout"), min_length=1, description="Which changes, in this order"
    )


class Ada(Section):
    """Each change with a probability p that follows the discriminator's overfitting (Karras et al. 2020, ADA)."""

    kind: Literal["ada"] = "ada"
    target: Annotated[float, Field(gt=-1, lt=1)] | None = Field(
        0.6, description="p rises while E[sign D(real)] is above it, falls below; null keeps p as it starts"
    )
    p: Probability = Field(0.0, description="Where p starts")
    interval: int = Field(4, ge=1, description="Iterations between two changes of p")
    rise_images: int = Field(500_000, ge=1, description="Images in which p rises from 0 to 1 at full speed")
    transforms: tuple[Literal["blit", "geometry", "color"], ...] = Field(
        ("blit", "geometry", "color"),
        min_length=1,
        description="blit: flips, quarter turns, whole-pixel shifts. geometry: scaling, rotation, shifts. color: "
        "brightness, contrast, luma flip, hue, saturation",
    )


Augmentation = Annotated[DiffAugment | Ada, Field(discriminator="kind")]
