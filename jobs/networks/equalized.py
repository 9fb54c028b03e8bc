"""Layers with an equalized learning rate (Karras et al. 2018, section 4.1).

Weights are stored as N(0, 1) and scaled by 1/√fan_in where they are used, so that Adam moves every layer at one pace.
Everything here computes in the dtype of its input; parameters stay in float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.networks.winograd import centred_conv

LEAK = 0.2
"""Slope of the leaky rectifier for negative inputs."""
GAIN = math.sqrt(2)
"""Of the rectifier, so that it keeps the variance."""
FP16_CLAMP = 256.0
"""Bound of activations in float16, before the gain of the rectifier."""


def rectified(x: Tensor) -> Tensor:
    """Leaky rectifier of `x` that has the gain √2 in it already: it is homogeneous, so the gain moves into what comes
    before, where it costs nothing. Bounded in float16.
    """
    x = F.leaky_relu(x, LEAK)
    return x.clamp(-FP16_CLAMP * GAIN, FP16_CLAMP * GAIN) if x.dtype == torch.float16 else x


class Dense(nn.Module):
    """[..., in] -> [..., out].

    `lr_multiplier` slows learning: parameters are stored larger and scaled back where they are used.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return self._scaled(x, 1.0)

    def _scaled(self, x: Tensor, factor: float) -> Tensor:
        """The result times `factor`. The product of matrices scales by itself: one operation for all of it."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        rows = x if x.dim() == 2 else x.flatten(0, -2)
        y = torch.addmm(bias, rows, weight.t(), beta=self.bias_gain * factor, alpha=self.weight_gain * factor)
        return y if x.dim() == 2 else y.unflatten(0, x.shape[:-1])


class RectifiedDense(Dense):
    """The dense layer and its leaky rectifier with the gain √2."""

    def forward(self, x: Tensor) -> Tensor:
        return rectified(self._scaled(x, GAIN))


class Conv(nn.Module):
    """[N, in, H, W] -> [N, out, H', W'], odd kernels centred; `stride` 2 pads nothing: its input is blurred to fit."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * kernel * kernel)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return self._scaled(x, 1.0)

    def _scaled(self, x: Tensor, factor: float) -> Tensor:
        """The result times `factor`."""
        weight = (self.weight * (self.gain * factor)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * factor).to(x.dtype)
        return F.conv2d(x, weight, bias, self.stride) if self.stride > 1 else centred_conv(x, weight, bias)


class RectifiedConv(Conv):
    """The convolution and its leaky rectifier with the gain √2."""

    def forward(self, x: Tensor) -> Tensor:
        return rectified(self._scaled(x, GAIN))
