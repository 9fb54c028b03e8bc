"""The section `recipe: {kind: stylegan2}`: Karras et al. 2020 (StyleGAN2), with the settings of StyleGAN2-ADA.

Every value that a preset or a formula may fill is `None` here until jobs/spec/stylegan2_resolve.py has filled it and
noted its formula, so that nobody trains with a value they never saw.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jobs.spec.augmentation import Augmentation
from jobs.spec.base import Section
from jobs.spec.data import ImageData
from jobs.spec.injection import AdaIN, Injection

Preset = Literal["auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar"]
Architecture = Literal["orig", "skip", "resnet"]
Positive = Annotated[float, Field(gt=0)]


class Mapping(Section):
    """z -> w: dense layers (StyleGAN2: 8; the presets auto and cifar: 2)."""

    layers: int | None = Field(
        None, ge=0, le=16, description="Dense layers; 0 is the identity, w = z; default from the preset (stylegan2: 8)"
    )
    lr_multiplier: Positive = Field(0.01, description="Learning rate relative to the generator's")
    frozen: bool = Field(False, description="Keep the layers as they were drawn: no optimizer has them")
    normalize_z: bool = Field(True, description="z / √(mean z²) first")
    w_average_beta: float = Field(0.995, ge=0, lt=1, description="Decay of the running mean of w, per iteration")


class Noise(Section):
    """Noise added after each styled convolution: one map for each image, times one strength a layer."""

    mode: Literal["random", "constant", "off"] = Field(
        "random", description="random: fresh for each image; constant: the same map for every image, drawn by the seed"
    )
    strength: Literal["learned", "fixed"] = "learned"
    strength_init: float = Field(0.0, description="Where every layer's strength starts, or stays")
    lr_multiplier: Positive = Field(1.0, description="Learning rate of the strengths relative to the generator's")
    start_images: int = Field(0, ge=0, description="No noise, and no learning of its strength, before so many images")


class ToRGB(Section):
    """The 1x1 layers that turn feature maps into an image."""

    present: Literal["all", "last", "none"] | None = Field(
        None,
        description="all: at every resolution, up-sampled and summed; last: at the last one; none: the last 3x3 "
        "convolution draws the image itself. Default: all for architecture skip, else last",
    )
    injected: Literal["all", "last", "all_but_last", "none"] = Field(
        "all", description="Which of them listen to a style; the others are plain 1x1 convolutions"
    )


class Generator(Section):
    """Synthesis network."""

    architecture: Architecture = Field("skip", description="resnet: blocks with a shortcut; see also to_rgb.present")
    latent: int = Field(512, ge=1, le=4096, description="Size of z, for each style vector")
    style: int = Field(512, ge=1, le=4096, description="D: size of w, for each style vector")
    channels_base: int | None = Field(
        None, ge=1, description="Feature maps at resolution r: min(channels_base / r, channels_max)"
    )
    channels_max: int = Field(512, ge=1, le=4096)
    injection: Injection = AdaIN()
    to_rgb: ToRGB = ToRGB()
    noise: Noise = Noise()
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
    reduce: Literal["mean_over_slots", "sum_over_k"] = Field(
        "mean_over_slots",
        description="Of squared gradients: mean over all vectors of w; or sum over the k vectors of a layer, then mean "
        "over layers, which is √k times as long",
    )


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
    mixing_align_to_k: bool = Field(
        True, description="Cut between layers only; false: anywhere, also among the k vectors of one layer"
    )
    w_plus_probability: float = Field(
        0.0, ge=0, le=1, description="Share of images whose layers each get a w of their own (training on W+)"
    )
    augmentation: Augmentation | None = Field(None, description="What the discriminator sees images through")
    truncation_psi: float = Field(1.0, ge=0, le=2, description="Truncation of the sample grids (never of metrics)")
    ema: Ema = Ema()
    optimizer: Adam = Adam()

    @model_validator(mode="after")
    def _labels_where_conditional(self) -> "StyleGAN2":
        if self.conditional and not self.data.labels:
            raise ValueError("conditional training needs the class labels of the data: set data.labels to true")
        return self
