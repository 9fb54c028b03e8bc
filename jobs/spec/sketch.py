"""The section `recipe: {kind: sketch}`: a progressive, conditional StyleGAN1 that continues drawings part by part.

Given the parts drawn so far it draws the next one (as DoodlerGAN does, Ge et al. 2021), with the synthesis network of
Karras et al. 2019, grown from 4x4 as in Karras et al. 2018.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.spec.base import Section
from jobs.spec.growth import Decaying, Growth, NoGrowth, Phases
from jobs.spec.sketch_data import SketchData
from jobs.spec.stylegan2 import Ema

Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class Encoder(Section):
    """Reads the drawing so far: one {3x3 convolution, rectifier, pixel norm} a resolution, average pooling between."""

    channels: int = Field(16, ge=1, le=512, description="Maps at the resolution of the data; doubled at each below")
    channels_max: int = Field(64, ge=1, le=512)
    pixel_norm: bool = Field(
        False, description="On in the notes; but where the paper is blank it divides by next to nothing"
    )
    concatenate: bool = Field(
        True, description="Give its maps to the generator after the block of the same resolution, before to-ink"
    )


class Latent(Section):
    """What the style is made from."""

    source: Literal["encoder", "z", "encoder_and_z", "none"] = Field(
        "encoder_and_z", description="encoder: a drawing has one continuation, as in the notes. none: one style for all"
    )
    size: int = Field(32, ge=1, le=1024, description="Size of z, and of the encoder's code")
    style: int = Field(64, ge=1, le=1024, description="Size of the style")
    layers: int = Field(2, ge=1, le=256, description="Dense layers from there to the style")


class Generator(Section):
    """Synthesis network: {upsample, convolutions, noise, instance norm with style} twice a resolution."""

    architecture: Literal["grown", "skip"] = Field(
        "grown", description="grown: the picture of the newest resolution. skip: a sum over resolutions, not grown"
    )
    channels_base: int = Field(512, ge=1, description="Feature maps at r: min(channels_base / r, channels_max)")
    channels_max: int = Field(64, ge=1, le=1024)
    convolutions: Literal[1, 2] = Field(1, description="3x3 convolutions in each half of a block")
    upsampling: Literal["bilinear", "nearest", "transposed"] = "bilinear"
    pixel_norm: bool = Field(True, description="After every convolution")
    noise: Literal["shared", "per_sample", "off"] = Field(
        "per_sample", description="shared: the same noise for a whole batch, as in the notes"
    )
    norm_epsilon: float = Field(1e-8, ge=0, le=1e-2, description="In instance norm; 0, as in the notes, divides by 0")
    constant: Literal["random", "ones"] = Field("random", description="How the learned 4x4 begins")


class Discriminator(Section):
    """One block a resolution: {3x3 convolutions, average pooling}; then statistics of the batch, and dense layers."""

    channels_base: int = Field(512, ge=1, description="Feature maps at r: min(channels_base / r, channels_max)")
    channels_max: int = Field(64, ge=1, le=1024)
    convolutions: Literal[1, 2] = 1
    pixel_norm: bool = Field(False, description="After every convolution; on in the notes, off as published")
    stddev_group: int = Field(
        4, ge=1, description="Images that share a statistic, at most: the largest divisor of the micro-batch is taken"
    )
    dense_layers: int = Field(2, ge=1, le=8, description="Dense layers at the end, the logit's included")
    dense: int = Field(64, ge=1, le=2048, description="Their width")


class R1(Section):
    """γ/2 · ‖∇D(real)‖² (Mescheder et al. 2018)."""

    gamma: Weight = 0.0
    interval: int = Field(1, ge=1, description="Iterations between two penalties, each scaled by this")


class GradientPenalty(Section):
    """weight · (‖∇D(x)‖ - target)² (Gulrajani et al. 2017: 10, interpolates, 1; DoodlerGAN: 10, real, 1)."""

    weight: Weight = 0.0
    at: Literal["interpolates", "real"] = "interpolates"
    target: Weight = 1.0
    interval: int = Field(1, ge=1, description="Iterations between two penalties, each scaled by this")


class Loss(Section):
    """What is minimised."""

    adversarial: Literal["wgan", "hinge", "logistic"] = "logistic"
    r1: R1 = R1(gamma=1.0)
    gradient_penalty: GradientPenalty = GradientPenalty()
    drift: Weight = Field(0.0, description="weight · D(real)²; 0.001 as published with wgan (Karras et al. 2018)")
    ink: Weight = Field(0.0, description="weight · (Σ generated - Σ real)², DoodlerGAN's sparsity (0.01)")


class LabelNoise(Section):
    """Makes the discriminator's life harder: `amount` of label noise."""

    kind: Literal["none", "smooth", "flip_real", "swap_all"] = Field(
        "none",
        description="smooth: reals count as real by 1 - amount, one-sided. flip_real: each real image is called "
        "generated with that chance. swap_all: the whole loss, both kinds, is exchanged with that chance: the notes'",
    )
    amount: Decaying = Decaying()


class InstanceNoise(Section):
    """Gaussian noise on what the discriminator sees; its standard deviation decays. Ink is 1, paper 0."""

    applies_to: Literal["none", "real", "both"] = "none"
    deviation: Decaying = Decaying()


class Adam(Section):
    """Adam, with a rate for each network."""

    generator_rate: Positive = 1e-3
    discriminator_rate: Positive = 1e-3
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.0, 0.99)
    epsilon: Positive = 1e-8
    reset_on_growth: bool = Field(True, description="Forget the moments at each growth, as published")


class Selector(Section):
    """Which part comes next, or none: a classifier of the drawing so far, trained beside (DoodlerGAN)."""

    channels: int = Field(16, ge=1, le=256, description="Maps at the resolution of the data; doubled at each below")
    channels_max: int = Field(64, ge=1, le=512)
    learning_rate: Positive = 1e-3


class Sketch(Section):
    """The progressive, conditional StyleGAN."""

    kind: Literal["sketch"] = "sketch"
    data: SketchData
    growth: Growth = Phases()
    encoder: Encoder = Encoder()
    latent: Latent = Latent()
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    wiring: Literal["registered", "rgb_unregistered", "rgb_and_constant_unregistered"] = Field(
        "registered",
        description="rgb_unregistered: the layers from and to ink stand in plain lists, as in the notes' code, so that "
        "no optimizer has them but the 4x4 to-ink; and the constant, as there on a GPU. Needs diagnosis.wiring: false",
    )
    loss: Loss = Loss()
    label_noise: LabelNoise = LabelNoise()
    instance_noise: InstanceNoise = InstanceNoise()
    generator_steps: int = Field(1, ge=1, le=16, description="Generator steps an iteration")
    discriminator_steps: int = Field(1, ge=1, le=16, description="Discriminator steps an iteration, on the same reals")
    optimizer: Adam = Adam()
    ema: Ema = Ema()
    selector: Selector | None = Field(None, description="{} trains one beside; `gankiln draw` asks it what comes next")

    @model_validator(mode="after")
    def _clocks_are_set(self) -> Self:
        for name, quantity in (
            ("label_noise.amount", self.label_noise.amount),
            ("instance_noise.deviation", self.instance_noise.deviation),
        ):
            if quantity.decay != "none" and quantity.over is None:
                raise ValueError(f"{name}: decay: {quantity.decay} needs `over`, and its `unit`")
        if self.label_noise.amount.start > 1:
            raise ValueError(f"label_noise.amount.start: {self.label_noise.amount.start} is more than every label")
        return self

    @model_validator(mode="after")
    def _growth_fits(self) -> Self:
        if isinstance(self.growth, NoGrowth):
            return self
        if self.generator.architecture == "skip":
            raise ValueError("generator.architecture: skip is the control without growth: write growth: {kind: none}")
        if self.growth.start_resolution > self.data.resolution:
            raise ValueError(
                f"growth.start_resolution: {self.growth.start_resolution} is above the {self.data.resolution} of the "
                "data"
            )
        return self
