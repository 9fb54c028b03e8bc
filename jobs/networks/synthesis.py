"""The synthesis network: K vectors of w for each styled layer to an image."""

import math
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from jobs.networks.equalized import Conv
from jobs.networks.precision import Precision
from jobs.networks.resample import upsample2
from jobs.networks.styled import NoiseInput, PlainToRGB, StyledConv, ToRGB
from jobs.spec.injection import vectors
from jobs.spec.stylegan2 import Generator
from jobs.spec.stylegan2_size import feature_maps, resolutions, rgb_injected, shows, styled_layers


class NoiseLevel(TypedDict):
    """What all noise of a pass is multiplied by."""

    noise_scale: float
    noise_gate: Tensor | None


class SynthesisBlock(nn.Module):
    """Doubles the resolution (the first block starts from a learned constant), styled convolutions, perhaps to-RGB.

    The to-RGB layer of a block reads the w of the next block's first convolution, as in the original.
    """

    def __init__(self, shape: Generator, inputs: int, outputs: int, *, size: int, top: int, channels: int) -> None:
        super().__init__()
        self.first = inputs == 0
        if self.first:
            self.constant = nn.Parameter(torch.randn(outputs, size, size))
        else:
            self.conv0 = StyledConv(shape, inputs, outputs, size, up=True)
        drawn_by_convolution = size == top and shape.to_rgb.present == "none"
        self.conv1 = None if drawn_by_convolution else StyledConv(shape, outputs, outputs, size)
        self.to_rgb: ToRGB | PlainToRGB | None = None
        if shows(shape.to_rgb, size, top):
            kernel = 3 if drawn_by_convolution else 1
            if rgb_injected(shape.to_rgb, size, top):
                self.to_rgb = ToRGB(shape, outputs, channels, size, kernel=kernel)
            else:
                self.to_rgb = PlainToRGB(outputs, channels, kernel=kernel)
        self.rgb_up = upsample2(size // 2) if shape.to_rgb.present == "all" and not self.first else None
        residual = shape.architecture == "resnet" and not self.first
        self.skip = Conv(inputs, outputs, 1, bias=False) if residual else None
        self.skip_up = upsample2(size // 2) if residual else None

    @property
    def convolutions(self) -> int:
        """Styled ones, to-RGB not counted."""
        return int(not self.first) + int(self.conv1 is not None)

    def forward(
        self, x: Tensor | None, rgb: Tensor | None, w_L: Sequence[Tensor], precision: Precision, noise: NoiseLevel
    ) -> tuple[Tensor, Tensor | None]:
        """`w_L` holds the styles [N, K, D] of this block's layers in order, the to-RGB's last."""
        if x is None:
            x = precision.prepare(self.constant.expand(len(w_L[0]), -1, -1, -1))
            if self.conv1 is not None:
                x = self.conv1(x, w_L[0], **noise)
        else:
            x = self._body(precision.prepare(x), w_L, noise)
        if self.rgb_up is not None and rgb is not None:
            rgb = self.rgb_up(rgb)
        if self.to_rgb is not None:
            seen = self.to_rgb(x, w_L[-1])
            rgb = seen if rgb is None else rgb + seen
        return x, rgb

    def _body(self, x: Tensor, w_L: Sequence[Tensor], noise: NoiseLevel) -> Tensor:
        y = self.conv0(x, w_L[0], **noise)
        if self.conv1 is not None:
            y = self.conv1(y, w_L[1], **noise)
        if self.skip is None or self.skip_up is None:
            return y
        return (y + self.skip_up(self.skip(x))) * math.sqrt(0.5)


def style_count(shape: Generator, resolution: int) -> int:
    """L, layers that have a w of their own: 2·log2(resolution) - 2, the to-RGB of the last block included.

    (The other to-RGB layers read the w of the convolution after them.)
    """
    return sum(not layer.rgb for layer in styled_layers(shape, resolution)) + 1


class Synthesis(nn.Module):
    """w [N, L·K, D] -> image [N, C, R, R], about [-1, 1]; layer l owns the rows l·K to (l + 1)·K - 1."""

    noise_gate: Tensor

    def __init__(self, shape: Generator, resolution: int, channels: int, precision: Precision) -> None:
        super().__init__()
        assert shape.channels_base is not None and shape.to_rgb.present is not None, "a resolved spec"
        self.vectors = vectors(shape.injection)
        self.styles = style_count(shape, resolution)
        self.precision = precision
        self.sizes = resolutions(resolution)
        blocks: list[SynthesisBlock] = []
        inputs = 0
        for size in self.sizes:
            outputs = feature_maps(size, shape.channels_base, shape.channels_max)
            blocks.append(SynthesisBlock(shape, inputs, outputs, size=size, top=resolution, channels=channels))
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("noise_gate", torch.ones([]))
        self.noise_starts_late = shape.noise.start_images > 0

    def forward(self, w_NLD: Tensor, *, noise_scale: float = 1.0) -> Tensor:
        """`noise_scale` 0 leaves the noise out, and so does a `noise_gate` of 0: noise has not started yet."""
        w_L = w_NLD.unflatten(1, (self.styles, self.vectors)).unbind(1)
        noise = NoiseLevel(noise_scale=noise_scale, noise_gate=self.noise_gate if self.noise_starts_late else None)
        x: Tensor | None = None
        rgb: Tensor | None = None
        start = 0
        for size, block in zip(self.sizes, self.blocks, strict=True):
            assert isinstance(block, SynthesisBlock)
            x, rgb = block(x, rgb, w_L[start : start + block.convolutions + 1], self.precision.at(size), noise)
            start += block.convolutions
        assert rgb is not None, "the last block always shows its image"
        return rgb

    def noise_inputs(self) -> list[NoiseInput]:
        """From the lowest resolution upwards."""
        return [module for module in self.modules() if isinstance(module, NoiseInput)]
