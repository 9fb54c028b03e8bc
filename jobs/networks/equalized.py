"""Layers with an equalized learning rate (Karras et al. 2018, section 4.1).

Weights are stored as N(0, 1) and scaled by 1/√fan_in where they are used, so that Adam moves every layer at one pace.
Everything here computes in the dtype of its input; parameters stay in float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2
"""Slope of the leaky rectifier for negative inputs."""


def leaky_relu(x: Tensor, gain: float = math.sqrt(2), clamp: float | None = None) -> Tensor:
    """Leaky rectifier with the gain √2 that keeps the variance; `clamp` bounds the result for float16."""
    x = F.leaky_relu(x, LEAK) * gain
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


class Dense(nn.Module):
    """[N, in] -> [N, out].

    `lr_multiplier` slows learning: parameters are stored larger and scaled back where they are used.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.weight_gain).to(x.dtype)
        return F.linear(x, weight, (self.bias * self.bias_gain).to(x.dtype))


class Conv(nn.Module):
    """[N, in, H, W] -> [N, out, H', W'], odd kernels centred; `stride` 2 pads nothing: its input is blurred to fit."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * kernel * kernel)
        self.stride = stride
        self.padding = kernel // 2 if stride == 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.conv2d(x, (self.weight * self.gain).to(x.dtype), bias, self.stride, self.padding)
