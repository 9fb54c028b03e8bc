"""The section `recipe: {kind: stylegan2}`: Karras et al. 2020 (StyleGAN2), with the settings of StyleGAN2-ADA.

Every value that a preset or a formula may fill is `None` here until `resolve` has filled it; `resolve` lives in
jobs/spec/resolve.py and notes each derived value with its formula, so that nobody trains with a value they never saw.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jobs.spec.base import Section
from jobs.spec.data import ImageData

Preset = Literal["auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar"]
Architecture = Literal["orig", "skip", "resnet"]
Positive = Annotated[float, Field(gt=0)]


class Mapping(Section):
    """z -> w: dense layers (StyleGAN2: 8; the presets auto and cifar: 2)."""

    layers: int | None = Field(None, ge=1, le=16, description="Dense layers; default from the preset (stylegan2: 8)")
    lr_multiplier: Positive = Field(0.01, description="Learning rate relative to the generator's")
    w_average_beta: float = Field(0.995, ge=0, lt=1, description="Decay of the running mean of w, per iteration")


class Generator(Section):
    """Synthesis network."""

    architecture: Architecture = "skip"
    latent: int = Field(512, ge=1, le=4096, description="Size of z")
    style: int = Field(512, ge=1, le=4096, description="Size of w")
    channels_base: int | None = Field(
        None, ge=1, description="Feature maps at resolution r: min(channels_base / r, channels_max)"
    )
    channels_max: int = Field(512, ge=1, le=4096)
    noise: Literal["random", "off"] = Field("random", description="Fresh noise for each sample and layer, or none")
    mapping: Mapping = Mapping()


class Discriminator(Section):
    """Discriminator network."""

    architecture: Architecture | None = Field(
        None, description="Default from the preset: cifar orig, all others resnet"
    )
    channels_base: int | None = Field(None, ge=1, description="Default: the generator's")
    channels_max: int = Field(512, ge=1, le=4096)
    stddev_group: int | None = Field(
        None, ge=1, description="Minibatch standard deviation over groups of at most this many images"
    )


class R1(Section):
    """R1 penalty γ/2 · ‖∇D(real)‖², lazily every `interval` iterations (Mescheder et al. 2018)."""

    gamma: Annotated[float, Field(ge=0)] | Literal["auto"] | None = Field(
        None, description="Weight; `auto` = 0.0002·resolution²/batch; default from the preset (stylegan2: 10)"
    )
    interval: int = Field(16, ge=1, description="Iterations between two penalties")


class PathLength(Section):
    """Path length regularisation, lazily every `interval` iterations (Karras et al. 2020, section 3.2)."""

    weight: float | None = Field(
        None, ge=0, description="0 turns it off; default from the preset: cifar 0, all others 2"
    )
    interval: int = Field(4, ge=1, description="Iterations between two penalties")
    decay: float = Field(0.01, gt=0, le=1, description="Step of the running mean of path lengths")
    batch_shrink: int = Field(2, ge=1, description="The penalty uses batch / batch_shrink images")


class Ema(Section):
    """Averaged generator: β = 0.5^(batch / half_life), half_life ramped up early in training."""

    half_life_images: Positive | None = Field(None, description="Default from the preset (stylegan2: 10,000)")
    ramp: float | None = Field(None, ge=0, description="half life <= ramp · images shown; 0 = no ramp")


class Adam(Section):
    """Adam; with lazy regularisation, lr and betas are corrected by c = interval / (interval + 1)."""

    learning_rate: Positive | None = Field(None, description="Default from the preset (stylegan2: 0.002)")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.0, 0.99)
    epsilon: Positive = 1e-8


class StyleGAN2(Section):
    """StyleGAN2."""

    kind: Literal["stylegan2"] = "stylegan2"
    data: ImageData
    preset: Preset = Field(
        "stylegan2",
        description="Fills what is not written: batch, stddev group, feature maps, learning rate, gamma ...",
    )
    conditional: bool = Field(False, description="Condition both networks on the class labels of the data")
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    r1: R1 = R1()
    path_length: PathLength = PathLength()
    mixing_probability: float | None = Field(
        None, ge=0, le=1, description="Style mixing; default from the preset: cifar 0, all others 0.9"
    )
    truncation_psi: float = Field(1.0, ge=0, le=2, description="Truncation of the sample grids (never of metrics)")
    ema: Ema = Ema()
    optimizer: Adam = Adam()

    @model_validator(mode="after")
    def _labels_where_conditional(self) -> "StyleGAN2":
        if self.conditional and not self.data.labels:
            raise ValueError("conditional training needs the class labels of the data: set data.labels to true")
        return self
