"""Convolutions that listen to a style (Karras et al. 2020, section 2.2), whatever way it enters."""

import math
from typing import assert_never

import torch
from torch import Tensor, nn

from jobs.networks.equalized import FP16_CLAMP, GAIN, Conv, rectified
from jobs.networks.injection import AdaConv, Modulation, StyleMatrix
from jobs.networks.per_sample import Convolved
from jobs.networks.resample import blur_after_transposed
from jobs.spec import injection as spec
from jobs.spec.stylegan2 import Generator, Noise


def injected(injection: spec.Injection, inputs: int, style: int, size: int) -> Modulation | StyleMatrix | AdaConv:
    """The module by which a style enters a layer of `inputs` maps, `size` pixels."""
    match injection:
        case spec.AdaIN():
            return Modulation(injection, inputs, style)
        case spec.StyleMatrix():
            return StyleMatrix(injection, inputs, style)
        case spec.AdaConv():
            return AdaConv(injection, inputs, style, size)
        case _:
            assert_never(injection)


class NoiseInput(nn.Module):
    """Adds one map of noise for each image, the same to all channels, times one strength."""

    constant: Tensor | None
    strength: Tensor

    def __init__(self, section: Noise, size: int) -> None:
        super().__init__()
        self.multiplier = section.lr_multiplier
        start = torch.tensor(section.strength_init / section.lr_multiplier)
        if section.strength == "learned":
            self.strength = nn.Parameter(start)
        else:
            self.register_buffer("strength", start)
        self.register_buffer("constant", torch.randn(size, size) if section.mode == "constant" else None)

    def forward(self, x: Tensor, factor: float, gate: Tensor | None) -> Tensor:
        """Times `factor`, and the number in `gate`, where there is one."""
        strength = self.strength * (self.multiplier * factor)
        strength = (strength if gate is None else strength * gate).to(x.dtype)
        if self.constant is not None:
            return torch.addcmul(x, self.constant.to(x.dtype), strength)
        noise_N1HW = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return torch.addcmul(x, noise_N1HW, strength)


class StyledConv(nn.Module):
    """Styled 3x3 convolution, noise, bias, rectifier: [N, in, S, S], w [N, K, D] -> [N, out, T, T].

    T = `size` is S, or 2S with `up`: then a blur follows the convolution, as in the original.
    """

    def __init__(self, shape: Generator, inputs: int, outputs: int, size: int, *, up: bool = False) -> None:
        super().__init__()
        self.injection = injected(shape.injection, inputs, shape.style, size)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise = NoiseInput(shape.noise, size) if shape.noise.mode != "off" else None
        self.blur = blur_after_transposed(size // 2) if up else None
        self.gain = 1 / math.sqrt(inputs * 9)

    def forward(
        self, x: Tensor, w_NKD: Tensor, *, noise_scale: float = 1.0, noise_gate: Tensor | None = None
    ) -> Tensor:
        """The noise is multiplied by both."""
        up = self.blur is not None
        convolved = self.injection(x, self.weight, w_NKD, gain=self.gain, demodulate=True, up=up)
        if self.blur is not None:
            convolved = Convolved(self.blur(convolved.x), convolved.factor_NO)
        x = convolved.scaled(GAIN, (self.bias * GAIN).to(x.dtype)[:, None, None])
        if self.noise is not None:
            x = self.noise(x, GAIN * noise_scale, noise_gate)
        return rectified(x)


class ToRGB(nn.Module):
    """Styled convolution to image channels, not demodulated: [N, in, S, S], w [N, K, D] -> float32 image."""

    def __init__(self, shape: Generator, inputs: int, channels: int, size: int, *, kernel: int = 1) -> None:
        super().__init__()
        self.injection = injected(shape.injection, inputs, shape.style, size)
        self.weight = nn.Parameter(torch.randn(channels, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gain = 1 / math.sqrt(inputs * kernel**2)

    def forward(self, x: Tensor, w_NKD: Tensor) -> Tensor:
        convolved = self.injection(x, self.weight, w_NKD, gain=self.gain, demodulate=False, up=False)
        return shown(convolved.scaled(1.0, self.bias.to(x.dtype)[:, None, None]))


class PlainToRGB(nn.Module):
    """The same without a style."""

    def __init__(self, inputs: int, channels: int, *, kernel: int = 1) -> None:
        super().__init__()
        self.conv = Conv(inputs, channels, kernel)

    def forward(self, x: Tensor, _w_NKD: Tensor) -> Tensor:
        return shown(self.conv(x))


def shown(x: Tensor) -> Tensor:
    """A layer's image as what is summed: float32, bounded where it was computed in float16."""
    return (x.clamp(-FP16_CLAMP, FP16_CLAMP) if x.dtype == torch.float16 else x).float()
