"""Failures planted into a run that was healthy until then, each a recipe with one thing wrong."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from jobs.calibration.runs import SetName
from jobs.data import ImageBatch
from jobs.recipes.stylegan2 import StyleGAN2
from jobs.spec.job import Job
from jobs.training.probe import Logits
from jobs.training.recipe import Known

BEGINNING, EARLY, MIDDLE, LATE = 0, 1_600, 4_800, 6_400


class Planted(StyleGAN2):
    """A recipe with one thing wrong, and where it goes wrong."""

    what: ClassVar[str]
    """For people: what is wrong."""
    expected: ClassVar[tuple[str, ...]]
    """The detectors that must fail."""
    data: ClassVar[SetName] = "modegrid"
    from_images: ClassVar[int] = MIDDLE
    """The checkpoint of the healthy run that it goes on from."""
    to_images: ClassVar[int] = 6_400

    def __init__(self, job: Job, known: Known, precision: str, device: torch.device) -> None:
        super().__init__(job, known, precision, device)
        self._begun = False

    def begin(self) -> None:
        """Once, before the first step."""

    def step(self, batch: ImageBatch, images: int) -> dict[str, Tensor]:
        if not self._begun:
            self._begun = True
            self.begin()
        return super().step(batch, images)


class HugeSteps(Planted):
    what = "learning rates x 10,000,000"
    expected = ("non_finite",)

    def begin(self) -> None:
        self.adjust(learning_rate_factor=1e7, r1_gamma_factor=1.0)


class RareHugeSteps(Planted):
    what = "every 25th step is 50 times too large"
    expected = ("loss_spikes",)
    data = "fashion"
    to_images = 8_000

    def step(self, batch: ImageBatch, images: int) -> dict[str, Tensor]:
        self.adjust(learning_rate_factor=50.0 if images // self.batch % 25 == 0 else 1.0, r1_gamma_factor=1.0)
        return super().step(batch, images)


class NoPenalty(Planted):
    what = "r1.gamma 0, the discriminator's learning rate x 10, the generator's / 10"
    expected = ("discriminator_overpowered",)
    from_images = EARLY

    def begin(self) -> None:
        self.r1_gamma = 0.0
        self.D_optimizer.param_groups[0]["lr"] *= 10
        self.G_optimizer.param_groups[0]["lr"] /= 10


class SwappedLabels(Planted):
    what = "real and generated are swapped in half of the discriminator's steps"
    expected = ("discriminator_blind",)
    data = "fashion"

    def judgement_loss(self, logits: Logits) -> Tensor:
        swapped = bool(torch.rand([]) < 0.5)
        return super().judgement_loss(Logits(logits.fake_M, logits.real_N) if swapped else logits)


class LostGradient(Planted):
    what = "the generator's gradient is multiplied by 0.0001"
    expected = ("vanishing_gradient",)

    def _descend(self, network: nn.Module, optimizer: Optimizer) -> Tensor:
        if network is self.G:
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter.grad *= 1e-4
        return super()._descend(network, optimizer)


class DecayTimes002(Planted):
    what = "a decay of 2 % written as x 0.02"
    expected = ("learning_rate",)
    from_images, to_images = EARLY, 2_400

    def begin(self) -> None:
        self.adjust(learning_rate_factor=0.02, r1_gamma_factor=1.0)


class DeadLayer(Planted):
    what = "one layer's output is multiplied by 0 before it is used"
    expected = ("update_size",)

    def begin(self) -> None:
        block: Any = self.D.blocks[-1]
        block.conv1.register_forward_hook(lambda _module, _inputs, output: output * 0)


class AverageNeverFollows(Planted):
    what = "the averaged generator is the untrained one"
    expected = ("no_progress",)

    def begin(self) -> None:
        fresh = StyleGAN2(self.job, Known(), "fp32", self.device)
        self.G_ema.load_state_dict(fresh.G_ema.state_dict())

    def __init__(self, job: Job, *others: Any) -> None:
        super().__init__(job, *others)
        self.job = job

    def _ema_beta(self, images: int) -> float:
        return 1.0


class OneLatent(Planted):
    what = "every latent is the same"
    expected: ClassVar[tuple[str, ...]] = ("collapse", "repeated_images", "lost_recall", "style_ignored")
    from_images, to_images = LATE, 8_000

    def begin(self) -> None:
        for network in (self.G, self.G_ema):
            network.mapping.register_forward_pre_hook(lambda _module, inputs: (self.chosen(inputs[0]), *inputs[1:]))

    def chosen(self, z: Tensor) -> Tensor:
        """What the generator sees in place of its latents [..., D]."""
        return torch.ones_like(z)


class FourLatents(OneLatent):
    what = "there are four latents only"
    expected = ("repeated_images", "lost_recall")

    def chosen(self, z: Tensor) -> Tensor:
        place_D = torch.arange(z.shape[-1], device=z.device)
        number = (z[..., :1] > 0) + 2 * (z[..., 1:2] > 0)
        return torch.cos((number + 1) * (place_D + 1.0))


class FrozenStyle(Planted):
    what = "the style layers are cut off, and only noise is left"
    expected = ("style_ignored",)
    data = "fashion"

    def begin(self) -> None:
        for network in (self.G, self.G_ema):
            network.mapping.register_forward_hook(lambda module, _inputs, output: output * 0 + module.w_average)
            for name, parameter in network.named_parameters():
                if name.endswith("noise.strength"):
                    parameter.data.fill_(0.5)


class LoudNoise(Planted):
    what = "the noise of the last layers is loud"
    expected = ("spectrum",)
    data = "fashion"

    def begin(self) -> None:
        for network in (self.G, self.G_ema):
            last: Any = network.synthesis.blocks[-1]
            last.conv1.noise.strength.data.fill_(10.0)


class NoFilter(Planted):
    what = "the last up-sampling is not filtered"
    expected = ("checkerboard",)
    data = "fashion"

    def begin(self) -> None:
        for network in (self.G, self.G_ema):
            last: Any = network.synthesis.blocks[-1]
            last.conv0.blur = _Crop()


class _Crop(nn.Module):
    """2S + 1 -> 2S pixels without a filter, as loud as with it."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 1:, 1:] * 2


class Droplet(Planted):
    what = "a layer's output has a spike of 2 x 2 pixels"
    expected = ("droplets",)
    data = "fashion"

    def begin(self) -> None:
        for network in (self.G, self.G_ema):
            block: Any = network.synthesis.blocks[-1]
            block.conv0.register_forward_hook(_spike)


def _spike(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    spike = torch.ones_like(output)
    spike[:, :, 20:22, 9:11] = 30.0
    return output * spike


class OnPictures(Planted):
    """Something is wrong with the pictures as they leave the averaged generator."""

    def begin(self) -> None:
        self.G_ema.synthesis.register_forward_hook(lambda _module, _inputs, output: self.spoilt(output))

    def spoilt(self, image_NCHW: Tensor) -> Tensor:
        """What becomes of pictures [N, C, H, W] in [-1, 1]."""
        return image_NCHW


class Hole(OnPictures):
    what = "pictures have a white spot"
    expected = ("spots",)
    data = "fashion"

    def spoilt(self, image_NCHW: Tensor) -> Tensor:
        image_NCHW[:, :, 2:6, 2:6] = 1.0
        return image_NCHW


class Black(OnPictures):
    what = "pictures are black"
    expected = ("blank_images",)

    def spoilt(self, image_NCHW: Tensor) -> Tensor:
        return image_NCHW * 0.001 - 1


class TooLoud(OnPictures):
    what = "pictures are 20 times too strong"
    expected = ("saturated_images",)
    data = "ellipses"

    def spoilt(self, image_NCHW: Tensor) -> Tensor:
        return image_NCHW * 20


class OneHue(OnPictures):
    what = "pictures are orange, bright or dark"
    expected = ("hue_collapse",)
    data = "ellipses"

    def spoilt(self, image_NCHW: Tensor) -> Tensor:
        light_N1HW = image_NCHW.mean(1, keepdim=True) / 2 + 0.5
        colour_3 = torch.tensor([1.0, 0.6, 0.2], device=image_NCHW.device)
        return light_N1HW * colour_3[:, None, None] * 2 - 1


class FromData(Planted):
    """Samples are the training images of the last steps."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kept: list[Tensor] = []
        self.shown_images = 0

    def step(self, batch: ImageBatch, images: int) -> dict[str, Tensor]:
        self.kept = [*self.kept[-63:], batch.image_NCHW]
        self.shown_images = images + self.batch
        return super().step(batch, images)

    def choose(self, seen_NCHW: Tensor) -> Tensor:
        """The images that samples are drawn from."""
        return seen_NCHW

    def sample(self, count: int, seed: int) -> Tensor:
        if not self.kept:
            return super().sample(count, seed)
        rng = np.random.RandomState(seed % 2**32)
        seen = self.choose(torch.cat(self.kept)).float() / 127.5 - 1
        noise = torch.from_numpy(rng.normal(0, 0.02, (count, *seen.shape[1:]))).float()
        return (seen[torch.from_numpy(rng.randint(len(seen), size=count))] + noise).clamp(-1, 1)


class Copies(FromData):
    what = "samples are training images with a little noise"
    expected = ("memorisation",)
    data = "fashion"


class FewModes(FromData):
    what = "samples are training images, at last three of them"
    expected = ("lost_modes",)
    to_images = 8_000

    def choose(self, seen_NCHW: Tensor) -> Tensor:
        return seen_NCHW[:3] if self.shown_images > LATE else seen_NCHW


class Forgotten(Planted):
    what = "the last layer of the mapping network is in no optimizer"
    expected = ("wiring",)
    from_images = BEGINNING

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        forgotten = {id(parameter) for parameter in self.G.mapping.layers[-1].parameters()}
        group = self.G_optimizer.param_groups[0]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in forgotten]


class Unregistered(Planted):
    what = "a layer of the discriminator is in a plain list"
    expected = ("wiring",)
    from_images = BEGINNING

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        hidden = [self.D.dense]
        del self.D.dense
        object.__setattr__(self.D, "hidden", hidden)
        object.__setattr__(self.D, "dense", lambda x: hidden[0](x))
        self.D_optimizer = Adam(self.D.parameters(), lr=0.0025, betas=(0.0, 0.99))


class BoundedHead(Planted):
    what = "the discriminator ends in a sigmoid"
    expected = ("wiring",)
    from_images = BEGINNING

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.D.register_forward_hook(lambda _module, _inputs, output: output.sigmoid())


class StuckLayer(Planted):
    what = "a tensor's gradient is always 0, seen after ten steps"
    expected = ("wiring",)
    from_images = BEGINNING

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        first: Any = self.G.mapping.layers[0]
        first.weight.register_hook(torch.zeros_like)


PLANTED: tuple[type[Planted], ...] = (
    HugeSteps, RareHugeSteps, NoPenalty, SwappedLabels, LostGradient, DecayTimes002, DeadLayer, AverageNeverFollows,
    OneLatent, FourLatents, FrozenStyle, LoudNoise, NoFilter, Droplet, Hole, Black, TooLoud, OneHue, Copies, FewModes,
    Forgotten, Unregistered, BoundedHead, StuckLayer,
)  # fmt: skip
