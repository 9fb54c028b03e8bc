"""Pieces of networks without styles: activations and norms by the names that a spec gives them."""

from typing import Literal, assert_never

from torch import nn

Norm = Literal["none", "batch", "instance"]
LEAKY_SLOPE = 0.2


def activation(kind: str) -> nn.Module:
    """relu, or leaky with a slope of 0.2."""
    return nn.LeakyReLU(LEAKY_SLOPE) if kind == "leaky" else nn.ReLU()


def norm_2d(kind: Norm, channels: int) -> list[nn.Module]:
    """A norm over maps, or nothing."""
    match kind:
        case "none":
            return []
        case "batch":
            return [nn.BatchNorm2d(channels)]
        case "instance":
            return [nn.InstanceNorm2d(channels)]
        case _:
            assert_never(kind)


def norm_1d(kind: Norm, channels: int) -> list[nn.Module]:
    """A batch norm over time, or nothing: over the last, single, moment an instance norm would leave nothing."""
    return [nn.BatchNorm1d(channels)] if kind == "batch" else []
