"""Convolutions that listen to a style (Karras et al. 2020, section 2.2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.networks.equalized import Dense, leaky_relu
from jobs.networks.resample import blur_after_transposed

FP16_CLAMP = 256.0
"""Bound of activations in float16, before the gain of the rectifier."""


def modulated_conv(x_NCHW: Tensor, weight_OIKK: Tensor, style_NI: Tensor, *, demodulate: bool, up: bool) -> Tensor:
    """Convolution with weights w'_oikk = s_i · w_oikk; with `demodulate`, w'' = w' / √(Σ_ikk w'² + ε) (Equations 1, 3).

    Scaling inputs by s and outputs by the demodulation factor around one shared convolution is the same function as
    weights for each sample, without N copies of them; and Σ_ikk (s_i w_oikk)² = (s²) · (Σ_kk w²)ᵀ is one small product.
    `up` gives 2S + 1 pixels by a transposed convolution (to be blurred to 2S). Style and weight are float32.
    """
    if x_NCHW.dtype == torch.float16:
        weight_OIKK, style_NI = _bounded(weight_OIKK, style_NI, demodulate=demodulate)
    x = x_NCHW * style_NI.to(x_NCHW.dtype)[:, :, None, None]
    weight = weight_OIKK.to(x.dtype)
    if up:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    else:
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    if demodulate:
        factor_NO = (style_NI.square() @ weight_OIKK.square().sum(dim=(2, 3)).t() + 1e-8).rsqrt()
        x = x * factor_NO.to(x.dtype)[:, :, None, None]
    return x


def _bounded(weight: Tensor, style: Tensor, *, demodulate: bool) -> tuple[Tensor, Tensor]:
    """Divides by the largest magnitudes, which demodulation undoes, so that float16 does not overflow in between."""
    if not demodulate:
        return weight, style
    weight = weight * (weight[0].numel() ** -0.5 / weight.abs().amax(dim=(1, 2, 3), keepdim=True))
    return weight, style / style.abs().amax(dim=1, keepdim=True)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, rectifier: [N, in, S, S], w [N, style] -> [N, out, T, T], T = S or 2S."""

    def __init__(
        self, inputs: int, outputs: int, style: int, size: int, *, up: bool = False, noise: bool = True
    ) -> None:
        super().__init__()
        self.affine = Dense(style, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([])) if noise else None
        self.blur = blur_after_transposed(size) if up else None
        self.gain = 1 / math.sqrt(inputs * 9)

    def forward(self, x: Tensor, w_ND: Tensor, *, noise_scale: float = 1.0) -> Tensor:
        """`noise_scale` 0 leaves the noise out (for measurements); it never changes training."""
        style = self.affine(w_ND)
        x = modulated_conv(x, self.weight * self.gain, style, demodulate=True, up=self.blur is not None)
        if self.blur is not None:
            x = self.blur(x)
        if self.noise_strength is not None:
            noise_N1HW = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
            x = x + noise_N1HW * (self.noise_strength * noise_scale).to(x.dtype)
        x = x + self.bias.to(x.dtype)[:, None, None]
        return leaky_relu(x, clamp=FP16_CLAMP if x.dtype == torch.float16 else None)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to image channels, not demodulated: [N, in, S, S], w [N, style] -> float32 image."""

    def __init__(self, inputs: int, channels: int, style: int) -> None:
        super().__init__()
        self.affine = Dense(style, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style_gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w_ND: Tensor) -> Tensor:
        style = self.affine(w_ND) * self.style_gain
        x = modulated_conv(x, self.weight, style, demodulate=False, up=False) + self.bias.to(x.dtype)[:, None, None]
        if x.dtype == torch.float16:
            x = x.clamp(-FP16_CLAMP, FP16_CLAMP)
        return x.float()
