"""The section `recipe: {kind: translation}`: images of domain A become images of domain B.

Unpaired (CycleGAN, Zhu et al. 2017): two generators, two discriminators, a cycle. Paired (pix2pix, Isola et al. 2017):
one generator, one discriminator that sees input and output together, a distance to the known translation.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.spec.base import Section
from jobs.spec.decay import Decay, Linear
from jobs.spec.layer_list import ActivationName, Network
from jobs.spec.pairs import TranslationData

Preset = Literal["cyclegan", "spap"]
AdversarialName = Literal["none", "gan", "lsgan", "hinge", "wgan", "wgan-gp", "dragan"]
Weight = Annotated[float, Field(ge=0)]


class Generator(Network):
    """Generators: one network each way, both of the same layers."""


class Discriminator(Network):
    """Discriminators, one a domain."""

    activation: ActivationName = Field("leaky_relu", description="Activation of every layer that does not say its own")
    border: Literal["reflect", "zeros", "replicate"] = Field(
        "zeros", description="What a padded convolution sees beyond the edge"
    )


class Loss(Section):
    """What the networks are asked for. Weights are absolute."""

    adversarial: AdversarialName = Field(
        "lsgan",
        description="gan: softplus. lsgan: squares. hinge. wgan: with clipped weights. wgan-gp: with a penalty on the "
        "gradient between real and generated. dragan: gan with that penalty around real images. none: no discriminator",
    )
    cycle: Weight = Field(10.0, description="A -> B -> A gives back the input: mean absolute difference; unpaired only")
    identity: Weight | None = Field(
        None, description="An image that is of the domain already stays as it is; default from the preset (cyclegan: 5)"
    )
    pairs: Weight = Field(100.0, description="Distance to the known translation, mean absolute; paired only")
    penalty: Weight = Field(10.0, description="Weight of (‖gradient‖ - 1)², of wgan-gp and dragan")
    clip: Annotated[float, Field(gt=0)] = Field(0.01, description="wgan: weights stay within this; no other uses it")


class Adam(Section):
    """One Adam for the generators, one for the discriminators."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    discriminator_factor: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Learning rate of the discriminators, relative"
    )
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.999)
    decay: Decay = Linear()


class Translation(Section):
    """Image translation."""

    kind: Literal["translation"] = "translation"
    data: TranslationData
    preset: Preset = Field(
        "cyclegan",
        description="Fills what is not written. cyclegan: residual blocks, 70 x 70 patches. spap: the network with a "
        "spatial pyramid and 2 x 2 resize-convolutions in which holes were first hunted",
    )
    paired: bool = Field(False, description="Learn from known translations instead of from cycles")
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    loss: Loss = Loss()
    alpha: Literal["channel", "premultiplied"] = Field(
        "channel",
        description="What losses and discriminators see of transparent pixels. channel: their colour like any other. "
        "premultiplied: colour times alpha, so that what nobody sees is not judged",
    )
    pool: int = Field(50, ge=0, le=10_000, description="Generated images that a discriminator remembers; unpaired only")
    critic_steps: int = Field(1, ge=1, le=100, description="Iterations of the discriminators for one of the generators")
    optimizer: Adam = Adam()
    ema_half_life_images: float = Field(
        0.0, ge=0, description="Of the averaged generators; 0: the generators as they are, as CycleGAN has it"
    )

    @model_validator(mode="after")
    def _pairs_where_paired(self) -> Self:
        if self.paired and not self.data.has_pairs:
            raise ValueError("paired learning needs data with pairs: set data.paired to true")
        if self.alpha == "premultiplied" and self.data.channels != "rgba":
            raise ValueError(f"alpha: premultiplied needs data.channels rgba, not {self.data.channels}")
        return self
