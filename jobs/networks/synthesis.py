"""The synthesis network: one w for each styled layer to an image."""

import math

import torch
from torch import Tensor, nn

from jobs.networks.equalized import Conv
from jobs.networks.precision import Precision
from jobs.networks.resample import upsample2
from jobs.networks.styled import StyledConv, ToRGB
from jobs.spec.size import feature_maps
from jobs.spec.stylegan2 import Architecture


def style_count(resolution: int) -> int:
    """Styled layers of a generator: 2·log2(resolution) - 2, the to-RGB of the last block included."""
    return 2 * int(math.log2(resolution)) - 2


class SynthesisBlock(nn.Module):
    """Doubles the resolution (the first block starts from a learned constant), two styled convolutions, perhaps to-RGB.

    The to-RGB layer of a block reads the w of the next block's first convolution, as in the original.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, *, style: int, rgb: int, architecture: Architecture, noise: bool
    ) -> None:
        super().__init__()
        self.first = inputs == 0
        if self.first:
            self.constant = nn.Parameter(torch.randn(outputs, size, size))
        else:
            self.conv0 = StyledConv(inputs, outputs, style, size // 2, up=True, noise=noise)
        self.conv1 = StyledConv(outputs, outputs, style, size, noise=noise)
        self.to_rgb = ToRGB(outputs, rgb, style) if rgb else None
        self.rgb_up = upsample2(size // 2) if architecture == "skip" and not self.first else None
        residual = architecture == "resnet" and not self.first
        self.skip = Conv(inputs, outputs, 1, bias=False) if residual else None
        self.skip_up = upsample2(size // 2) if residual else None

    def forward(
        self, x: Tensor | None, rgb: Tensor | None, w_NLD: Tensor, precision: Precision, noise_scale: float
    ) -> tuple[Tensor, Tensor | None]:
        """`w_NLD` holds the styles of this block's layers in order, the to-RGB's last."""
        if x is None:
            x = self.constant.expand(len(w_NLD), -1, -1, -1)
            x = self.conv1(precision.prepare(x), w_NLD[:, 0], noise_scale=noise_scale)
        else:
            x = self._body(precision.prepare(x), w_NLD, noise_scale)
        if self.rgb_up is not None and rgb is not None:
            rgb = self.rgb_up(rgb)
        if self.to_rgb is not None:
            shown = self.to_rgb(x, w_NLD[:, -1])
            rgb = shown if rgb is None else rgb + shown
        return x, rgb

    def _body(self, x: Tensor, w_NLD: Tensor, noise_scale: float) -> Tensor:
        y = self.conv0(x, w_NLD[:, 0], noise_scale=noise_scale)
        y = self.conv1(y, w_NLD[:, 1], noise_scale=noise_scale)
        if self.skip is None or self.skip_up is None:
            return y
        return (y + self.skip_up(self.skip(x))) * math.sqrt(0.5)


class Synthesis(nn.Module):
    """w [N, L, style] -> image [N, C, R, R], about [-1, 1]."""

    def __init__(
        self,
        resolution: int,
        channels: int,
        *,
        base: int,
        most: int,
        style: int,
        architecture: Architecture,
        noise: bool,
        precision: Precision,
    ) -> None:
        super().__init__()
        self.styles = style_count(resolution)
        self.precision = precision
        sizes = [2**power for power in range(2, int(math.log2(resolution)) + 1)]
        blocks: list[SynthesisBlock] = []
        inputs = 0
        for size in sizes:
            outputs = feature_maps(size, base, most)
            rgb = channels if architecture == "skip" or size == resolution else 0
            blocks.append(
                SynthesisBlock(inputs, outputs, size, style=style, rgb=rgb, architecture=architecture, noise=noise)
            )
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.sizes = sizes

    def forward(self, w_NLD: Tensor, *, noise_scale: float = 1.0) -> Tensor:
        x: Tensor | None = None
        rgb: Tensor | None = None
        start = 0
        for size, block in zip(self.sizes, self.blocks, strict=True):
            convolutions = 1 if block.first else 2
            w_block = w_NLD[:, start : start + convolutions + 1]
            x, rgb = block(x, rgb, w_block, self.precision.at(size), noise_scale)
            start += convolutions
        assert rgb is not None, "the last block always shows its image"
        return rgb
