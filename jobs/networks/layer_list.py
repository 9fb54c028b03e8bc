"""Networks from lists of typed layers (jobs/spec/layer_list.py): [N, C, S, S] -> whatever the last layer puts out.

Every convolution may be demodulated: each filter divided by its L2 norm, which scales maps by their expected instead of
their actual statistics (Karras et al. 2020, section 2.2, for a network without styles). Nothing can then be smuggled
through a spike that rescales the rest of the map.
"""

import math
from itertools import pairwise
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.spec.layer_list import (
    ActivationName,
    AnyLayer,
    Attention,
    Conv,
    Down,
    Final,
    Gate,
    Network,
    NormName,
    Reconv,
    Residual,
    Resize,
    Spap,
    Transposed,
    Up,
)
from jobs.spec.layer_shapes import conv_bias, demodulates, dilations, pads, trace

LEAK = 0.2
STD = 0.02
"""Of initial weights (Zhu et al. 2017); where no normaliser follows a rectifier, that of He et al. 2015 instead."""
EPSILON = 1e-5
PIXEL_EPSILON = 1e-8
PADDING = {"reflect": "reflect", "zeros": "constant", "replicate": "replicate"}


class PaddedConv(nn.Module):
    """[N, in, S, S] -> [N, out, S', S'], centred (or shifted, where the spec asks for it)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, norm: NormName, network: Network, *, stride: int = 1,
        padding: "int | str" = "same", dilation: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(_initial(outputs, inputs, kernel, norm))
        self.bias = nn.Parameter(torch.zeros(outputs)) if conv_bias(norm) else None
        self.demodulated, self.gain = demodulates(norm), 1.0
        self.stride, self.dilation = stride, dilation
        self.pads = pads(kernel, stride, dilation, padding, network.alignment)
        self.shift_is_asked_for = self.pads.before != self.pads.after
        self.border = PADDING[network.border]

    def forward(self, x: Tensor) -> Tensor:
        if self.pads.before or self.pads.after:
            x = F.pad(x, [self.pads.before, self.pads.after] * 2, mode=self.border)
        weight = demodulated(self.weight, self.gain) if self.demodulated else self.weight
        bias = None if self.bias is None else self.bias.to(x.dtype)
        x = F.conv2d(x, weight.to(x.dtype), bias, self.stride, dilation=self.dilation)
        return F.avg_pool2d(x, 2, stride=1) if self.pads.averaged else x


class TransposedConv(nn.Module):
    """[N, in, S, S] -> [N, out, 2S, 2S]; kernel 3 has one row of output padding, as published with CycleGAN."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: NormName) -> None:
        super().__init__()
        self.weight = nn.Parameter(_initial(outputs, inputs, kernel, norm))
        self.bias = nn.Parameter(torch.zeros(outputs)) if conv_bias(norm) else None
        self.demodulated, self.gain = demodulates(norm), 1.0
        self.output_padding = kernel % 2

    def forward(self, x: Tensor) -> Tensor:
        weight = demodulated(self.weight, self.gain) if self.demodulated else self.weight
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight_IOKK = weight.to(x.dtype).transpose(0, 1)
        return F.conv_transpose2d(x, weight_IOKK, bias, 2, padding=1, output_padding=self.output_padding)


class Normaliser(nn.Module):
    """By the statistics of the maps, then a learned scale and offset a channel. [N, C, H, W] -> the same."""

    def __init__(self, norm: NormName, channels: int) -> None:
        super().__init__()
        self.norm = norm
        if norm == "batch":
            self.batch = nn.BatchNorm2d(channels)
        else:
            self.scale = nn.Parameter(torch.ones(channels))
            self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        match self.norm:
            case "batch":
                return self.batch(x)
            case "instance":
                return F.instance_norm(x, weight=self.scale, bias=self.offset, eps=EPSILON)
            case "layer":
                return F.group_norm(x, 1, self.scale.to(x.dtype), self.offset.to(x.dtype), EPSILON)
            case "pixel":
                scale, offset = (part.to(x.dtype)[:, None, None] for part in (self.scale, self.offset))
                return by_pixel(x) * scale + offset
            case "pixel_instance":
                return F.instance_norm(by_pixel(x), weight=self.scale, bias=self.offset, eps=EPSILON)
            case _:
                raise AssertionError(f"{self.norm} normalises no maps")


class Offset(nn.Module):
    """A learned number a channel: what is left of a normaliser that normalises nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset.to(x.dtype)[:, None, None]


class Activation(nn.Module):
    """The named function."""

    def __init__(self, name: "ActivationName | Gate") -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        match self.name:
            case "relu":
                return F.relu(x)
            case "leaky_relu":
                return F.leaky_relu(x, LEAK)
            case "tanh":
                return torch.tanh(x)
            case "sigmoid" | "softmax":  # softmax over two is the sigmoid of their difference
                return torch.sigmoid(x)
            case "none":
                return x
            case _:
                assert_never(self.name)


class Block(nn.Module):
    """Convolution, normaliser, activation; before a rectifier, demodulated weights get the gain that it takes away."""

    def __init__(
        self, conv: PaddedConv | TransposedConv, norm: NormName, channels: int, activation: "ActivationName | Gate"
    ) -> None:
        super().__init__()
        self.conv = conv
        conv.gain = math.sqrt(2) if activation in ("relu", "leaky_relu") else 1.0
        self.norm = nn.Identity() if conv_bias(norm) else Normaliser(norm, channels)
        self.activation = Activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class Resized(nn.Module):
    """Another size."""

    def __init__(self, size: int, mode: str) -> None:
        super().__init__()
        self.size, self.mode = size, mode

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] == self.size:
            return x
        return F.interpolate(x, (self.size, self.size), mode=self.mode)


class ResidualBlock(nn.Module):
    """x + second(first(x))."""

    def __init__(self, first: Block, second: Block) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Pyramid(nn.Module):
    """SPAP: branches, fused one by one, added to the input."""

    def __init__(self, branches: list[Block], gates: list[Block], after: nn.Module, layer: Spap) -> None:
        super().__init__()
        self.branches, self.gates, self.after = nn.ModuleList(branches), nn.ModuleList(gates), after
        self.shares = layer.gate == "softmax"
        self.coarse_first = layer.order == "coarse_to_fine"

    def forward(self, x: Tensor) -> Tensor:
        seen = [branch(x) for branch in self.branches]  # the finest first
        if self.coarse_first:
            seen.reverse()
        fused = seen[0]
        for gate, other in zip(self.gates, seen[1:], strict=True):
            share = gate(torch.cat([fused, other], dim=1))
            fused = other + share * (fused - other) if self.shares else share * fused + share * other
        return self.after(fused + x)


class SelfAttention(nn.Module):
    """x + gain · attention over all pixels; the gain starts at 0 (Zhang et al. 2019, section 3)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Parameter(torch.randn(3 * channels, channels) / math.sqrt(channels))
        self.project = nn.Parameter(torch.randn(channels, channels) / math.sqrt(channels))
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        x_NPC = x.flatten(2).transpose(1, 2)
        parts = F.linear(x_NPC, self.read.to(x.dtype)).chunk(3, dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen_NPC = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        y_NPC = F.linear(seen_NPC, self.project.to(x.dtype)) * self.gain.to(x.dtype)
        return x + y_NPC.transpose(1, 2).unflatten(2, x.shape[2:])


class LayerNetwork(nn.Module):
    """The layers of a resolved network, one module each, in order."""

    def __init__(self, network: Network, channels: int, side: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        assert network.layers is not None, "a resolved spec"
        self.dtype = dtype
        self.network = network
        shapes = trace(network, channels, side)
        widths = [channels, *(shape.channels for shape in shapes)]
        self.layers = nn.ModuleList(
            self._layer(layer, *ends) for layer, ends in zip(network.layers, pairwise(widths), strict=True)
        )
        self.labels = tuple(f"layer {shape.number} {shape.text}" for shape in shapes)

    def forward(self, image_NCHW: Tensor, *, full_precision: bool = False) -> Tensor:
        """`full_precision` computes in float32 at least: second derivatives lose too much in half of it."""
        x = image_NCHW.to(torch.promote_types(self.dtype, torch.float32) if full_precision else self.dtype)
        for layer in self.layers:
            x = layer(x)
        return x.float()

    def _layer(self, layer: AnyLayer, inputs: int, outputs: int) -> nn.Module:
        match layer:
            case Resize(size=size, mode=mode):
                return Resized(size, mode)
            case Conv(kernel=kernel, stride=stride, padding=padding):
                return self._block(layer, inputs, outputs, kernel, stride=stride, padding=padding)
            case Reconv(size=size, kernel=kernel):
                return nn.Sequential(Resized(size, "nearest"), self._block(layer, inputs, outputs, kernel))
            case Down() | Up() | Transposed():
                return nn.Sequential(*self._scaling(layer, inputs))
            case Residual() | Spap() | Attention():
                return self._same_shape(layer, inputs)
            case Final():
                return self._final(layer, inputs)
            case _:
                assert_never(layer)

    def _same_shape(self, layer: Residual | Spap | Attention, channels: int) -> nn.Module:
        match layer:
            case Residual(count=count):
                return nn.Sequential(*(self._residual(layer, channels) for _ in range(count)))
            case Spap():
                return self._pyramid(layer, channels)
            case Attention(heads=heads):
                return SelfAttention(channels, heads)

    def _scaling(self, layer: Down | Up | Transposed, inputs: int) -> list[nn.Module]:
        parts: list[nn.Module] = []
        for _ in range(layer.count):
            norm, activation = self._styles(layer)
            match layer:
                case Down():
                    outputs = 2 * inputs
                    parts.append(self._block(layer, inputs, outputs, layer.kernel, stride=2))
                case Up():
                    outputs = inputs // 2
                    parts += [nn.Upsample(scale_factor=2), self._block(layer, inputs, outputs, layer.kernel)]
                case Transposed():
                    outputs = inputs // 2
                    conv = TransposedConv(inputs, outputs, layer.kernel, norm)
                    parts.append(Block(conv, norm, outputs, activation))
            inputs = outputs
        return parts

    def _residual(self, layer: Residual, channels: int) -> ResidualBlock:
        norm, _ = self._styles(layer)
        conv = PaddedConv(channels, channels, layer.kernel, norm, self.network)
        second = Block(conv, norm, channels, "none")
        return ResidualBlock(self._block(layer, channels, channels, layer.kernel), second)

    def _pyramid(self, layer: Spap, channels: int) -> Pyramid:
        norm, activation = self._styles(layer)
        branches = [
            self._block(layer, channels, channels, layer.kernel, dilation=dilation) for dilation in dilations(layer)
        ]
        gates = [
            Block(PaddedConv(2 * channels, channels, 1, norm, self.network), norm, channels, layer.gate)
            for _ in range(layer.levels - 1)
        ]
        after: nn.Module = nn.Identity()
        if layer.post:
            normaliser = Offset(channels) if conv_bias(norm) else Normaliser(norm, channels)
            after = nn.Sequential(normaliser, Activation(activation))
        return Pyramid(branches, gates, after, layer)

    def _final(self, layer: Final, inputs: int) -> Block:
        assert layer.channels is not None and layer.activation is not None, "a resolved spec"
        conv = PaddedConv(
            inputs, layer.channels, layer.kernel, "none", self.network, stride=layer.stride, padding=layer.padding
        )
        nn.init.normal_(conv.weight, std=STD)
        return Block(conv, "none", layer.channels, layer.activation)

    def _block(
        self, layer: Conv | Down | Up | Reconv | Residual | Spap, inputs: int, outputs: int, kernel: int, *,
        stride: int = 1, padding: "int | str" = "same", dilation: int = 1,
    ) -> Block:  # fmt: skip
        norm, activation = self._styles(layer)
        conv = PaddedConv(
            inputs, outputs, kernel, norm, self.network, stride=stride, padding=padding, dilation=dilation
        )
        return Block(conv, norm, outputs, activation)

    def _styles(
        self, layer: Conv | Down | Up | Transposed | Reconv | Residual | Spap
    ) -> tuple[NormName, ActivationName]:
        return layer.norm or self.network.norm, layer.activation or self.network.activation


def demodulated(weight_OIKK: Tensor, gain: float = 1.0) -> Tensor:
    """Each filter at the norm `gain`: w · gain / √(Σ_ikk w² + ε) (Karras et al. 2020, Equation 3, with s = 1)."""
    return weight_OIKK * ((weight_OIKK.square().sum(dim=(1, 2, 3), keepdim=True) + PIXEL_EPSILON).rsqrt() * gain)


def by_pixel(x_NCHW: Tensor) -> Tensor:
    """Each pixel divided by its root mean square over channels (Karras et al. 2018, section 4.2)."""
    return x_NCHW * (x_NCHW.square().mean(dim=1, keepdim=True) + PIXEL_EPSILON).rsqrt()


def _initial(outputs: int, inputs: int, kernel: int, norm: NormName) -> Tensor:
    std = math.sqrt(2 / (inputs * kernel**2)) if norm == "none" else STD
    return torch.randn(outputs, inputs, kernel, kernel) * std
