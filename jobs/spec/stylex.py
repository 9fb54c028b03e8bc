"""The section `recipe: {kind: stylex}`: Lang et al. 2021 (Explaining in Style), a GAN that rebuilds an image as a
classifier sees it, and the search for the style coordinates that change the classifier's mind.

Rates and feature maps that are `None` here are filled by jobs/spec/stylex_resolve.py, with their formulas.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.spec.augmentation import Augmentation
from jobs.spec.base import Section
from jobs.spec.data import DataPath, ImageData, Share
from jobs.spec.evaluation import LpipsNetwork
from jobs.spec.stylegan2 import Adam, Architecture, Ema, Generator, Positive

Weight = Annotated[float, Field(ge=0)]
Unit = Annotated[float, Field(ge=0, le=1)]
ClassifierArchitecture = Literal["small", "resnet18", "mobilenet_v2"]


class Classifier(Section):
    """The classifier that is explained: trained from the labels of the data before the GAN, or read from a file.

    A tenth of the data is kept from its training; on it accuracy (mean over classes) and calibration are measured.
    """

    path: DataPath | None = Field(
        None, description="A safetensors file with its weights, named as torchvision names them; open: trained here"
    )
    architecture: ClassifierArchitecture = Field(
        "small", description="small: four convolutions, for images up to 64 pixels"
    )
    input_side: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Images are resized to so many pixels first; open: small and trained as they are",
    )
    normalize: Literal["signed", "imagenet"] = Field(
        "signed", description="What it takes: [-1, 1], or ImageNet's mean 0 and deviation 1"
    )
    least_accuracy: Unit = Field(0.9, description="Mean over classes on the images kept aside; below, the job stops")
    images: int = Field(30_000, ge=1, description="Images shown while it is trained")
    learning_rate: Positive = Field(0.002, description="Peak of its one-cycle schedule")


class Conditioning(Section):
    """What the GAN is told of the classifier's answer on the real image."""

    source: Literal["softmax", "logits", "none"] = Field(
        "softmax", description="Which numbers are appended to w, one a class"
    )
    inject: Literal["both", "encoder"] = Field(
        "both", description="Into styles of both branches, or of the encoder's alone: then the mapping makes all of w"
    )
    discriminator: Literal["weighted_heads", "projection", "none"] = Field(
        "weighted_heads", description="weighted_heads: one logit a class, weighted by the classifier's probabilities"
    )


class Encoder(Section):
    """Image -> w: the discriminator's stack of blocks, with a dense layer at its end."""

    architecture: Architecture = "resnet"
    channels_base: int | None = Field(None, ge=1, description="Default: the generator's")
    channels_max: int = Field(512, ge=1, le=4096)
    lr_multiplier: Positive = Field(1.0, description="Learning rate relative to the generator's")
    learning_rate: Positive | None = Field(
        None, description="Absolute; where it is written, the multiplier is not used"
    )


class Discriminator(Section):
    """Discriminator network."""

    architecture: Architecture = "resnet"
    channels_base: int | None = Field(None, ge=1, description="Default: the generator's")
    channels_max: int = Field(512, ge=1, le=4096)
    stddev_group: int = Field(
        4, ge=1, description="Minibatch standard deviation over groups of at most this many images; 1 turns it off"
    )
    lr_multiplier: Positive = Field(
        1.0, description="Learning rate relative to the generator's: what some code calls ttur_mult (there 1.5)"
    )
    learning_rate: Positive | None = Field(
        None, description="Absolute; where it is written, the multiplier is not used"
    )


class Adversarial(Section):
    """What fooling the discriminator is worth."""

    kind: Literal["logistic", "hinge"] = "logistic"
    weight: Weight = Field(1.0, description="Of the generator's and the encoder's adversarial term")


class R1(Section):
    """γ/2 · ‖∇D(real)‖² (Mescheder et al. 2018)."""

    kind: Literal["r1"] = "r1"
    gamma: Weight = 1.0
    interval: int = Field(16, ge=1, description="Iterations between two penalties")


class GradientPenalty(Section):
    """weight · (‖∇D(real)‖ - target)²."""

    kind: Literal["gradient_penalty"] = "gradient_penalty"
    weight: Weight = 10.0
    target: Weight = 1.0
    interval: int = Field(4, ge=1, description="Iterations between two penalties")


class PathLength(Section):
    """Path length regularisation (Karras et al. 2020, section 3.2), in the noise branch where there is one."""

    weight: Weight = Field(2.0, description="0 turns it off")
    interval: int = Field(4, ge=1, description="Iterations of that branch between two penalties")
    start_images: int = Field(0, ge=0, description="None before so many real images were shown")
    decay: float = Field(0.01, gt=0, le=1, description="Step of the running mean of path lengths")
    batch_shrink: int = Field(2, ge=1, description="The penalty uses batch / batch_shrink images")


class Perceptual(Section):
    """A distance of activations. `classifier` and `random_conv` need no learned weights from elsewhere."""

    kind: Literal["lpips", "classifier", "random_conv", "none"] = "classifier"
    weight: Weight = 0.1
    network: LpipsNetwork = Field("alex", description="Of lpips")
    normalize: Literal["fixed", "per_image"] = Field(
        "fixed",
        description="per_image: each image stretched to its own least and largest value, which hides brightness",
    )


class Reconstruction(Section):
    """x against x' = G(E(x)): scale · (pixels · L1 + w · L1 of E(x) and E(x') + perceptual)."""

    scale: Weight = 1.0
    pixels: Weight = 1.0
    w: Weight = 0.1
    perceptual: Perceptual = Perceptual()


class Kl(Section):
    """The classifier's answer on x against that on x', in nats."""

    scale: Weight = 1.0
    direction: Literal["input_to_rebuilt", "rebuilt_to_input"] = Field(
        "input_to_rebuilt", description="KL(C(x) ‖ C(x')), or KL(C(x') ‖ C(x))"
    )


class AttFind(Section):
    """The search for style coordinates that change the classifier's mind (Lang et al. 2021, Algorithm 1)."""

    images: int = Field(128, ge=4, le=10_000, description="Real images that are moved along every coordinate")
    batch: int = Field(256, ge=1, description="Pictures made at a time")
    shift: Positive = Field(
        1.0, description="How far a coordinate moves: a share of the way to its extreme of all images"
    )
    strategy: Literal["largest_effect", "most_images"] = Field(
        "largest_effect",
        description="Next coordinate: the largest mean effect on images not yet explained, or that which changes the "
        "most images",
    )
    rank_by: Literal["effect", "effect_per_change"] = Field(
        "effect",
        description="effect_per_change: divided by how much the picture changes, so that a coordinate that redraws "
        "everything stands behind one that changes what matters",
    )
    explained_above: Positive = Field(
        5.0, description="An image is explained when its effects (log-odds) add up to more than this"
    )
    changed_above: Positive = Field(1.0, description="most_images: a change of the log-odds by more than this counts")
    least_share: Unit = Field(0.03, description="most_images: a coordinate must change at least this share of images")
    coordinates: int = Field(10, ge=1, le=1000, description="How many coordinates are selected for every class")
    unstable_effect: Positive = Field(0.3, description="An effect on the log-odds that counts for unstable_share")
    unstable_share: Unit = Field(
        1.0, description="Images on which a larger share of all moves has that effect are left out; 1 keeps all"
    )
    drop_least_real: Share = Field(
        0.0, description="This share of images, those with the lowest score of D, is left out"
    )
    most_score_change: Positive | None = Field(
        None, description="Coordinates that change the score of D by more than this on average are not selected"
    )
    shown_images: int = Field(8, ge=1, le=64, description="Rows of the picture")
    shown_coordinates: int = Field(4, ge=1, le=16, description="Coordinates of the picture, down and up each")


class StylEx(Section):
    """StylEx."""

    kind: Literal["stylex"] = "stylex"
    data: ImageData
    classifier: Classifier = Classifier()
    conditioning: Conditioning = Conditioning()
    generator: Generator = Field(Generator(), description="`style` does not count the classifier's numbers")
    encoder: Encoder = Encoder()
    discriminator: Discriminator = Discriminator()
    alternating: Literal["alternate", "encoder_only", "noise_only"] = Field(
        "alternate", description="Whether iterations take turns between latents and encoded images, or use one of them"
    )
    first_branch: Literal["noise", "encoder"] = Field("noise", description="Which branch the first iteration uses")
    kl_rec_during_disc: Literal["off", "log_only", "own_step", "carry"] = Field(
        "off",
        description="Reconstruction and KL in the discriminator's phase too: only said; a step of their own; or their "
        "gradient is added to that of the generator's phase",
    )
    adversarial: Adversarial = Adversarial()
    penalty: Annotated[R1 | GradientPenalty, Field(discriminator="kind")] = R1()
    path_length: PathLength = PathLength()
    reconstruction: Reconstruction = Reconstruction()
    kl: Kl = Kl()
    double_when_alternating: bool = Field(
        True, description="Twice reconstruction.scale and kl.scale where only every second iteration has them"
    )
    mixing_probability: Unit = Field(0.9, description="Style mixing in the noise branch")
    augmentation: Augmentation | None = Field(None, description="What the discriminator sees images through")
    truncation_psi: float = Field(1.0, ge=0, le=2, description="Truncation of the sample grids (never of metrics)")
    ema: Ema = Ema()
    optimizer: Adam = Adam()
    attfind: AttFind = AttFind()

    @model_validator(mode="after")
    def _labels_to_explain(self) -> Self:
        if not self.data.labels:
            raise ValueError("a classifier is trained and measured on the classes of the data: set data.labels to true")
        return self

    @property
    def encodes(self) -> bool:
        """Whether any iteration uses the encoder."""
        return self.alternating != "noise_only"

    @property
    def draws(self) -> bool:
        """Whether any iteration uses latents."""
        return self.alternating != "encoder_only"
