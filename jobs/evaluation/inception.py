"""The Inception network of the FID: 299 x 299 images to 2048 features (pool3 of inception-2015-12-05).

Szegedy et al. 2016 with the differences that TensorFlow's graph of 2015 has and later versions do not: average pools
do not count padding, and the last block pools by maximum.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.evaluation.convolutions import Convolution


class Unit(nn.Module):
    """Convolution (batch norm folded in) and ReLU; padded to keep its size unless `valid`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: Convolution, *, stride: int = 1, valid: bool = False) -> None:
        super().__init__()
        weight, bias = convolution
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride = stride
        self.padding = (0, 0) if valid else (weight.shape[2] // 2, weight.shape[3] // 2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.relu_(F.conv2d(x_NCHW, self.weight, self.bias, self.stride, self.padding))


class AveragePool(nn.Module):
    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.avg_pool2d(x_NCHW, 3, 1, 1, count_include_pad=False)


class MaxPool(nn.Module):
    """3 x 3: either halving without padding, or keeping the size."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.max_pool2d(x_NCHW, 3, self.stride, 1 if self.stride == 1 else 0)


class Branches(nn.Module):
    """Several paths over one input, their channels side by side."""

    def __init__(self, *paths: nn.Module) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.cat([path(x_NCHW) for path in self.paths], dim=1)


def _chain(units: Iterator[Convolution], count: int) -> nn.Sequential:
    return nn.Sequential(*(Unit(next(units)) for _ in range(count)))


def _reducing(units: Iterator[Convolution], count: int) -> nn.Sequential:
    """A chain whose last convolution halves the size."""
    return nn.Sequential(*(Unit(next(units)) for _ in range(count - 1)), Unit(next(units), stride=2, valid=True))


def _pooled(units: Iterator[Convolution], pool: nn.Module) -> nn.Sequential:
    return nn.Sequential(pool, Unit(next(units)))


def _wide(units: Iterator[Convolution], pool: nn.Module) -> Branches:
    """Mixed 7b and 7c: the ends of two paths fork into 1 x 3 and 3 x 1."""
    plain = Unit(next(units))
    short = nn.Sequential(Unit(next(units)), Branches(Unit(next(units)), Unit(next(units))))
    long = nn.Sequential(Unit(next(units)), Unit(next(units)), Branches(Unit(next(units)), Unit(next(units))))
    return Branches(plain, short, long, _pooled(units, pool))


class Inception(nn.Module):
    """[N, 3, 299, 299] of (x - 128)/128 -> [N, 2048]; takes its 94 convolutions in the order of definition."""

    def __init__(self, convolutions: Iterable[Convolution]) -> None:
        super().__init__()
        units = iter(convolutions)
        self.first_pool = nn.Sequential(
            Unit(next(units), stride=2, valid=True), Unit(next(units), valid=True), Unit(next(units)), MaxPool(2)
        )
        blocks: list[nn.Module] = [Unit(next(units)), Unit(next(units), valid=True), MaxPool(2)]
        for _ in range(3):  # Mixed 5b to 5d
            blocks.append(Branches(*(_chain(units, n) for n in (1, 2, 3)), _pooled(units, AveragePool())))
        blocks.append(Branches(_reducing(units, 1), _reducing(units, 3), MaxPool(2)))  # 6a
        for _ in range(4):  # 6b to 6e
            blocks.append(Branches(*(_chain(units, n) for n in (1, 3, 5)), _pooled(units, AveragePool())))
        blocks.append(Branches(_reducing(units, 2), _reducing(units, 4), MaxPool(2)))  # 7a
        blocks += [_wide(units, AveragePool()), _wide(units, MaxPool(1))]
        self.blocks = nn.Sequential(*blocks)
        assert next(units, None) is None, "more convolutions than the network has"

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.blocks(self.first_pool(x_NCHW)).mean((2, 3))
