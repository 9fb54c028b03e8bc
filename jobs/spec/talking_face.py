"""The section `recipe: {kind: talking_face}`: from one still image and a voice to a moving face.

Two presets: `per_frame`, the generator of Vougioukas et al. 2018 with its three discriminators, and `unpadded_unet`, a
classic U-Net without padding as people rebuild it, with its config keys. `None` is filled by the preset
(jobs/spec/talking_face_resolve.py), and what was filled is said.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.spec.base import Section
from jobs.spec.clips import ClipData

Preset = Literal["per_frame", "unpadded_unet"]
Norm = Literal["none", "batch", "instance"]
Activation = Literal["relu", "leaky"]
Region = Literal["full", "upper", "lower"]
Term = Literal["l1", "identity", "sequence", "sync"]
TERMS: tuple[Term, ...] = ("l1", "identity", "sequence", "sync")
ADVERSARIES: tuple[Literal["identity", "sequence", "sync"], ...] = ("identity", "sequence", "sync")
Positive = Annotated[float, Field(gt=0)]
Channels = tuple[Annotated[int, Field(ge=1, le=4096)], ...]
Label = Annotated[float, Field(ge=0, le=1)]


class AudioEncoder(Section):
    """From the window of sound of each frame to a code."""

    code: int = Field(256, ge=1, le=4096, description="Numbers that a frame's sound becomes")
    channels: int = Field(16, ge=1, le=512, description="Of the first convolution; they double, up to eight times that")
    activation: Activation = Field("relu", description="leaky was regretted here by people who tried it")
    gru_layers: int | None = Field(None, ge=0, le=4, description="Layers of a GRU over frames; 0: no GRU; the preset's")


class Noise(Section):
    """What a face does without being told to: blinks, brows."""

    kind: Literal["none", "independent", "gru"] | None = Field(
        None, description="independent: a fresh draw a frame. gru: such draws, smoothed over frames by a GRU"
    )
    size: int = Field(10, ge=1, le=1024, description="Numbers drawn for a frame")
    deviation: Positive = Field(0.33, description="Their standard deviation")


class Generator(Section):
    """A still image, a voice and noise -> frames."""

    architecture: Preset | None = Field(None, description="Default: the preset's name")
    norm: Norm | None = Field(None, description="per_frame: batch; unpadded_unet: none")
    activation: Activation = "relu"
    audio: AudioEncoder = AudioEncoder()
    noise: Noise = Noise()
    channels: int = Field(64, ge=1, le=1024, description="per_frame: of the first level; they double at each")
    channels_max: int = Field(512, ge=1, le=4096, description="per_frame: at most so many at any level")
    identity_code: int = Field(128, ge=1, le=4096, description="per_frame: numbers that the still image becomes")
    enc_chs: Channels | None = Field(None, min_length=2, description="unpadded_unet: channels going down")
    dec_chs: Channels | None = Field(
        None, min_length=2, description="unpadded_unet: channels after each joint; the first is up_chs[1] + enc_chs[-2]"
    )
    up_chs: Channels | None = Field(
        None, min_length=2, description="unpadded_unet: channels before and after each enlargement"
    )
    retain_dim: Literal[True] = Field(
        True, description="Frames are enlarged to the size of the data (nearest); false could not be compared with it"
    )

    @model_validator(mode="after")
    def _own_keys(self) -> Self:
        written = [key for key in ("enc_chs", "dec_chs", "up_chs") if getattr(self, key) is not None]
        if written and self.architecture == "per_frame":
            raise ValueError(f"{', '.join(written)}: keys of architecture unpadded_unet, not of per_frame")
        return self


class _Adversary(Section):
    """What the three discriminators have in common."""

    enabled: bool = True
    learning_rate: Positive | None = Field(None, description="Default from the preset")
    activation: Activation = "leaky"
    norm: Norm = Field("none", description="batch makes a loss of 1e-9 in `sync`, say people who tried it")


class IdentityDiscriminator(_Adversary):
    """One frame and the still image: is this a real frame of that face?"""

    architecture: Literal["plain", "patch"] = "plain"
    chs: Channels | None = Field(None, min_length=1, description="plain: outputs of its convolutions; the last is 1")
    ndf: int = Field(64, ge=1, le=1024, description="patch: channels of the first convolution")
    n_layers: int = Field(3, ge=1, le=6, description="patch: convolutions of stride 2")
    frames: int | None = Field(
        None, ge=1, le=250, description="Frames judged of each example, drawn anew; default: 3, or the whole window"
    )

    @model_validator(mode="after")
    def _ends_in_one(self) -> Self:
        if self.chs is not None and self.chs[-1] != 1:
            raise ValueError(f"chs ends in {self.chs[-1]}, but its last convolution makes the logit: 1")
        return self


class SequenceDiscriminator(_Adversary):
    """Consecutive frames: do they move as real ones do?"""

    architecture: Literal["conv_gru", "gru", "gru_head", "conv3d"] | None = Field(
        None,
        description="conv_gru: a convolution a frame, a GRU, a logit. gru_head: a GRU over pixels, a logit. gru: its "
        "hidden state as logits, which cannot leave (-1, 1). conv3d: convolutions over time too",
    )
    frames: int | None = Field(None, ge=2, le=250, description="Frames judged at a time; default: the whole window")
    region: Region = "full"
    previous: Literal["fake", "real"] = Field(
        "fake", description="real: before the last generated frame, the real ones are shown"
    )
    chs: Channels | None = Field(None, min_length=1, description="conv_gru, conv3d: outputs of its convolutions")
    h_size: int = Field(100, ge=1, le=4096, description="Size of the GRU's state")
    num_layers: int = Field(1, ge=1, le=4, description="Layers of the GRU")


class SyncDiscriminator(_Adversary):
    """A few frames and what is heard with them: are they in time?"""

    frames: int | None = Field(None, ge=1, le=50, description="Frames seen at once; 1: a single one")
    region: Region = Field("lower", description="Which half of the frames it sees")
    negatives: Literal["fake", "misaligned", "both"] | None = Field(
        None,
        description="What it must refuse. fake: generated frames with their sound. misaligned: real frames with the "
        "sound of another time. With fake alone it can do without listening",
    )
    head: Literal["concat", "distance", "cosine"] = Field(
        "distance", description="How the codes of both become a logit: dense layers over both, or over |a - b|, or a "
        "scaled cosine",
    )  # fmt: skip
    chs: Channels | None = Field(None, min_length=1, description="Outputs of its convolutions over frames")
    code: int = Field(128, ge=1, le=4096, description="Numbers that either side becomes")
    snippets: int = Field(2, ge=1, le=250, description="Places judged of each example, drawn anew")
    expert_images: int = Field(
        0,
        ge=0,
        description="An expert: it learns from real clips alone for so long, is then frozen, and only then is the "
        "generator told. Needs negatives: misaligned. 0: it learns beside the generator",
    )

    @model_validator(mode="after")
    def _expert_listens(self) -> Self:
        if self.expert_images and self.negatives not in (None, "misaligned"):
            raise ValueError(f"an expert never sees generated frames: negatives: misaligned, not {self.negatives}")
        return self


class Discriminators(Section):
    """Each judges by itself, with its own learning rate."""

    identity: IdentityDiscriminator = IdentityDiscriminator()
    sequence: SequenceDiscriminator = SequenceDiscriminator()
    sync: SyncDiscriminator = SyncDiscriminator()


class Weights(Section):
    """What the generator minimises: the sum of its terms, each times its weight."""

    l1: float | None = Field(None, ge=0, description="Mean absolute difference to the real frames in [-1, 1]")
    identity: float | None = Field(None, ge=0)
    sequence: float | None = Field(None, ge=0)
    sync: float | None = Field(None, ge=0)


class L1(Section):
    """Where frames must be like the real ones."""

    region: Literal["full", "lower", "weighted"] | None = Field(None, description="Default from the preset")
    lower_weight: float = Field(
        4.0, gt=0, description="weighted: a pixel of the lower half counts so many times one of the upper half"
    )


class Labels(Section):
    """Targets of the discriminators: numbers, or ranges to draw from."""

    real: Label | tuple[Label, Label] = 1.0
    fake: Label | tuple[Label, Label] = 0.0

    @model_validator(mode="after")
    def _apart(self) -> Self:
        real, fake = (value if isinstance(value, tuple) else (value, value) for value in (self.real, self.fake))
        if real[0] > real[1] or fake[0] > fake[1]:
            raise ValueError("a range is written [low, high]")
        if fake[1] >= real[0]:
            raise ValueError(f"labels of fake reach {fake[1]}, those of real begin at {real[0]}: they must be apart")
        return self


class Stage(Section):
    """When a term of the generator counts, and its discriminator learns."""

    start_images: int = Field(0, ge=0)
    stop_images: int | None = Field(None, ge=1, description="Default: the end of the run")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.stop_images is not None and self.stop_images <= self.start_images:
            raise ValueError(f"stops at {self.stop_images} images, before it starts at {self.start_images}")
        return self


class Decay(Section):
    """Learning rates go down in steps. Write `fraction` (what is taken away) or `multiplier` (what is left)."""

    fraction: float | None = Field(None, gt=0, lt=1, description="0.02: every step leaves 98 %")
    multiplier: float | None = Field(None, gt=0, lt=1, description="0.02: every step leaves 2 %")
    every_images: int = Field(ge=1, description="Images between two steps")
    until_images: int | None = Field(None, ge=1, description="No step after it; default: to the end")
    networks: tuple[Literal["generator", "identity", "sequence", "sync"], ...] = Field(
        ("generator", "identity", "sequence", "sync"), min_length=1, description="Whose rates"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.fraction is None) == (self.multiplier is None):
            raise ValueError(
                "write either fraction (lr · (1 - fraction) at each step) or multiplier (lr · multiplier), so that "
                "nobody can take 2 % for a factor of 0.02"
            )
        return self

    @property
    def factor(self) -> float:
        """What a step leaves."""
        return 1 - self.fraction if self.fraction is not None else self.multiplier or 1.0

    def left(self, images: int) -> float:
        """What is left of a learning rate after `images`."""
        reached = images if self.until_images is None else min(images, self.until_images)
        return float(self.factor ** (reached // self.every_images))


class Adam(Section):
    """Adam, for all networks; the discriminators have their own learning rates."""

    learning_rate: Positive | None = Field(None, description="Of the generator; default from the preset")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.999)
    epsilon: Positive = 1e-8
    scalers: Literal["one", "each"] = Field("one", description="fp16: a gradient scaler for all, or one a network")


class TalkingFace(Section):
    """A face that speaks."""

    kind: Literal["talking_face"] = "talking_face"
    data: ClipData
    preset: Preset = Field("per_frame", description="Fills what is not written")
    generator: Generator = Generator()
    discriminators: Discriminators = Discriminators()
    weights: Weights = Weights()
    l1: L1 = L1()
    labels: Labels = Labels()
    stages: dict[Term, Stage] = Field({}, description="Terms that start late or stop early")
    optimizer: Adam = Adam()
    decay: Decay | None = None
    ema_half_life_images: float = Field(0.0, ge=0, description="Of the averaged generator; 0: it is the generator")
    ema_ramp: float = Field(0.05, ge=0, description="Half life <= ramp · images shown; 0 = no ramp")

    def enabled(self, name: Literal["identity", "sequence", "sync"]) -> bool:
        """Whether this discriminator takes part."""
        adversary: _Adversary = getattr(self.discriminators, name)
        return adversary.enabled

    def active(self, term: Term, images: int) -> bool:
        """Whether a term counts at `images`."""
        if term != "l1" and not self.enabled(term):
            return False
        if term == "sync" and images < self.discriminators.sync.expert_images:
            return False
        stage = self.stages.get(term, Stage())
        return stage.start_images <= images and (stage.stop_images is None or images < stage.stop_images)

    def learns(self, name: Literal["identity", "sequence", "sync"], images: int) -> bool:
        """Whether a discriminator learns at `images`: an expert before its term counts, the others while it does."""
        expert_images = self.discriminators.sync.expert_images
        if name == "sync" and expert_images:
            return self.enabled(name) and images < expert_images
        return self.active(name, images)
