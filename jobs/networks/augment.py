"""What the discriminator sees images through: nothing, DiffAugment, or ADA. All of it can be differentiated twice.

seen = augmentation(image)          random, drawn from torch's default generator
augmentation.observe(logit_real)    on every batch of real images
augmentation.adapt(iteration, n)    once an iteration: moves ADA's p when it is time
augmentation.seen_now               counts of this iteration; processes that train together add theirs before `adapt`
"""

from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.networks.ada import Blit, Colour, Geometry
from jobs.spec import augmentation as spec

TRANSLATION, CUTOUT = 1 / 8, 1 / 2
"""Of DiffAugment: largest shift, and side of the hole, as shares of the image's side."""


class Augmentation(nn.Module):
    """None: images as they are."""

    @property
    def seen_now(self) -> tuple[Tensor, ...]:
        """What `observe` has counted since `adapt`: to be added to, in place."""
        return ()

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return image_NCHW

    def observe(self, logit_N1: Tensor) -> None:
        """The discriminator on real images."""

    def adapt(self, iteration: int, batch: int) -> None:
        """After each iteration of `batch` images."""

    def scalars(self) -> dict[str, Tensor]:
        """What to log."""
        return {}


class DiffAugment(Augmentation):
    """Zhao et al. 2020: each change always, of random size."""

    def __init__(self, section: spec.DiffAugment) -> None:
        super().__init__()
        self.policy = section.policy

    def forward(self, image_NCHW: Tensor) -> Tensor:
        changes = {"color": recoloured, "translation": translated, "cutout": cut_out}
        for name in self.policy:
            image_NCHW = changes[name](image_NCHW)
        return image_NCHW


def recoloured(x: Tensor) -> Tensor:
    """Brightness ± 1/2, saturation x 0 to 2, contrast x 1/2 to 3/2."""
    brightness, saturation, contrast = (torch.rand(len(x), 1, 1, 1, device=x.device) for _ in range(3))
    x = x + (brightness - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def translated(x: Tensor) -> Tensor:
    """Whole pixels, at most an eighth of the side either way, zeros behind."""
    count, _, height, width = x.shape
    far = max(int(height * TRANSLATION + 0.5), 1)
    shift_N2 = torch.randint(0, 2 * far + 1, (count, 2), device=x.device)
    rows_NH = torch.arange(height, device=x.device) + shift_N2[:, :1]
    columns_NW = torch.arange(width, device=x.device) + shift_N2[:, 1:]
    images = torch.arange(count, device=x.device)[:, None, None]
    padded_NHWC = F.pad(x, [far] * 4).permute(0, 2, 3, 1)
    return padded_NHWC[images, rows_NH[:, :, None], columns_NW[:, None]].permute(0, 3, 1, 2)


def cut_out(x: Tensor) -> Tensor:
    """A square hole of zeros, half as wide as the image, its middle anywhere in it."""
    count, _, height, width = x.shape
    side = int(height * CUTOUT + 0.5)
    middle_N2 = torch.randint(0, height + 1 - side % 2, (count, 2), device=x.device)

    def within(places: int, middle_N: Tensor) -> Tensor:
        offset = torch.arange(places, device=x.device) - middle_N[:, None] + side // 2
        return (offset >= 0) & (offset < side)

    hole_NHW = within(height, middle_N2[:, 0])[:, :, None] & within(width, middle_N2[:, 1])[:, None]
    return x * ~hole_NHW[:, None]


class Ada(Augmentation):
    """Karras et al. 2020: each change with probability p, which rises while D is too sure of real images."""

    p: Tensor
    sign_sum: Tensor
    seen: Tensor
    now_2: Tensor

    def __init__(self, section: spec.Ada, resolution: int) -> None:
        super().__init__()
        self.section = section
        made = {"blit": Blit, "geometry": Geometry, "color": Colour}
        self.transforms = nn.ModuleList(made[name](resolution) for name in section.transforms)
        for name, start in (("p", section.p), ("sign_sum", 0.0), ("seen", 0.0)):
            self.register_buffer(name, torch.tensor(start))
        self.register_buffer("now_2", torch.zeros(2), persistent=False)

    @property
    def seen_now(self) -> tuple[Tensor, ...]:
        return () if self.section.target is None else (self.now_2,)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        for transform in self.transforms:
            image_NCHW = transform(image_NCHW, self.p)
        return image_NCHW

    @torch.no_grad()
    def observe(self, logit_N1: Tensor) -> None:
        self.now_2[0] += logit_N1.sign().sum()
        self.now_2[1] += len(logit_N1)

    @torch.no_grad()
    def adapt(self, iteration: int, batch: int) -> None:
        """p += sign(E[sign D(real)] - target) · images since / rise_images, within [0, 1]."""
        section = self.section
        self.sign_sum += self.now_2[0]
        self.seen += self.now_2[1]
        self.now_2.zero_()
        if section.target is None or (iteration + 1) % section.interval:
            return
        direction = (self.sign_sum / self.seen.clamp(min=1) - section.target).sign()
        self.p += direction * (batch * section.interval / section.rise_images)
        self.p.clamp_(0, 1)
        self.sign_sum.zero_()
        self.seen.zero_()

    def scalars(self) -> dict[str, Tensor]:
        return {"augmentation.p": self.p.clone()}


def build(section: spec.Augmentation | None, resolution: int) -> Augmentation:
    """The augmentation of images of `resolution` pixels."""
    match section:
        case None:
            return Augmentation()
        case spec.DiffAugment():
            return DiffAugment(section)
        case spec.Ada():
            return Ada(section, resolution)
        case _:
            assert_never(section)
