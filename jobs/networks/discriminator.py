"""The discriminator of StyleGAN2: orig, skip or resnet blocks, minibatch standard deviation, projection of labels."""

import math

import torch
from torch import Tensor, nn

from jobs.networks.equalized import Conv, Dense, RectifiedConv, RectifiedDense
from jobs.networks.mapping import MappingNetwork
from jobs.networks.precision import Precision
from jobs.networks.resample import blur_before_strided, downsample2
from jobs.spec.stylegan2 import Architecture
from jobs.spec.stylegan2_size import LABEL_LAYERS, feature_maps


def minibatch_stddev(x_NCHW: Tensor, group: int, sets: int = 1) -> Tensor:
    """Appends one map: the standard deviation over groups of images, averaged over channels and pixels.

    `group` images at most share a statistic, of one of `sets` batches that stand one after the other; each must be
    divisible by the smaller of both (Karras et al. 2018, section 3).
    """
    count, channels, height, width = x_NCHW.shape
    group = min(group, count // sets)
    y = x_NCHW.reshape(sets, group, -1, channels, height, width)
    y = (y - y.mean(dim=1, keepdim=True)).square().mean(dim=1)  # torch's own var takes 25 times as long on a CPU
    y = (y + 1e-8).sqrt().mean(dim=(2, 3, 4), keepdim=True)  # [sets, groups, 1, 1, 1]
    y = y[:, None].expand(-1, group, -1, -1, height, width).reshape(count, 1, height, width)
    return torch.cat([x_NCHW, y], dim=1)


class DiscriminatorBlock(nn.Module):
    """[N, in, S, S] -> [N, out, S/2, S/2]."""

    def __init__(self, inputs: int, outputs: int, size: int, *, channels: int, architecture: Architecture) -> None:
        super().__init__()
        self.from_rgb = RectifiedConv(channels, inputs, 1) if channels else None
        self.conv0 = RectifiedConv(inputs, inputs, 3)
        self.blur = blur_before_strided(size)
        self.conv1 = RectifiedConv(inputs, outputs, 3, stride=2)
        self.skip = Conv(inputs, outputs, 1, bias=False) if architecture == "resnet" else None
        self.skip_down = downsample2(size) if architecture == "resnet" else None
        self.image_down = downsample2(size) if architecture == "skip" else None

    def forward(self, x: Tensor | None, image: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
        """Features from above (None at the first) and the image at this resolution -> the same one step down."""
        if self.from_rgb is not None:
            seen = self.from_rgb(precision.prepare(image))
            x = seen if x is None else precision.prepare(x) + seen
        assert x is not None, "the first block reads the image"
        x = precision.prepare(x)
        y = self.conv1(self.blur(self.conv0(x)))
        if self.skip is not None and self.skip_down is not None:
            y = (y + self.skip(self.skip_down(x))) * math.sqrt(0.5)
        return y, image if self.image_down is None else self.image_down(image)


class BlockStack(nn.Module):
    """image [N, C, R, R] in [-1, 1] -> features [N, last, 4, 4]: what a discriminator and an encoder have in common."""

    def __init__(
        self, resolution: int, channels: int, *, base: int, most: int, architecture: Architecture, precision: Precision
    ) -> None:
        super().__init__()
        self.precision = precision
        self.sizes = [2**power for power in range(int(math.log2(resolution)), 2, -1)]
        blocks = []
        for size in self.sizes:
            shown = channels if size == resolution or architecture == "skip" else 0
            inputs, outputs = feature_maps(size, base, most), feature_maps(size // 2, base, most)
            blocks.append(DiscriminatorBlock(inputs, outputs, size, channels=shown, architecture=architecture))
        self.blocks = nn.ModuleList(blocks)
        self.last = feature_maps(4, base, most)
        self.last_rgb = RectifiedConv(channels, self.last, 1) if architecture == "skip" or not blocks else None

    def features(self, image_NCHW: Tensor, *, full_precision: bool = False) -> Tensor:
        """`full_precision` computes in float32 throughout: second derivatives (R1) lose too much in bfloat16."""
        x: Tensor | None = None
        image = image_NCHW.float()
        precision = Precision("fp32", self.precision.resolution) if full_precision else self.precision
        for size, block in zip(self.sizes, self.blocks, strict=True):
            x, image = block(x, image, precision.at(size))
        if self.last_rgb is not None:
            seen = self.last_rgb(image)
            x = seen if x is None else x.float() + seen
        assert x is not None
        return x.float().contiguous()


class Discriminator(BlockStack):
    """image [N, C, R, R] in [-1, 1], label [N] or None -> logit [N, 1]; larger means more real.

    With `classes` it projects on the mapped label, which may be shares of the classes, [N, classes].
    """

    def __init__(
        self,
        resolution: int,
        channels: int,
        *,
        base: int,
        most: int,
        architecture: Architecture,
        stddev_group: int,
        precision: Precision,
        classes: int = 0,
    ) -> None:
        super().__init__(resolution, channels, base=base, most=most, architecture=architecture, precision=precision)
        self.stddev_group = stddev_group
        self.last_conv = RectifiedConv(self.last + 1, self.last, 3)
        self.dense = RectifiedDense(self.last * 16, self.last)
        self.label_size = self.last if classes else 0
        self.logit = Dense(self.last, self.label_size or 1)
        self.label_mapping = _label_mapping(classes, self.last) if classes else None

    def forward(
        self, image_NCHW: Tensor, label_N: Tensor | None = None, *, full_precision: bool = False, sets: int = 1
    ) -> Tensor:
        """`full_precision` as in `features`; `sets`: so many batches, one after the other, judged apart in one pass."""
        x = self.features(image_NCHW, full_precision=full_precision)
        x = minibatch_stddev(x, self.stddev_group, sets)
        x = self.last_conv(x)
        x = self.logit(self.dense(x.flatten(1)))
        if self.label_mapping is None:
            return x
        assert label_N is not None, "a conditional discriminator needs labels"
        # Projection: the logit is the feature's component along the mapped label, / √dim.
        code = self.label_mapping(torch.zeros(len(x), 0, device=x.device), label_N)
        return (x * code).sum(dim=1, keepdim=True) / math.sqrt(self.label_size)


def judged_both(D: nn.Module, images: tuple[Tensor, Tensor], label_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits [N, 1] of a discriminator on two batches with the same labels, in one pass."""
    logit: Tensor = D(torch.cat(images), None if label_N is None else torch.cat([label_N, label_N]), sets=2)
    first, second = logit.chunk(2)
    return first, second


def _label_mapping(classes: int, size: int) -> MappingNetwork:
    return MappingNetwork(0, size, LABEL_LAYERS, 0.01, classes=classes)
