"""3x3 convolutions with fewer multiplications (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for Convolutional
Neural Networks"): F(4x4, 3x3).

Tiles of 6x6 pixels, every fourth, are transformed; the maps are mixed by 36 matrix products; every product is
transformed back to 4x4 pixels: Y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A. That takes a quarter of the multiplications and is the
same function up to rounding (3e-6 in float32, where summing directly is off by 1e-7). cuDNN chooses it by itself; torch
has none on a CPU.

    y = centred_conv(x_NIHW, weight_OI33)        directly wherever this way does not pay

A convolution, its adjoint and the gradient of its weight are differentiated into one another, so derivatives of any
order take this way.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function

from jobs.networks.resample import is_channels_last

OUT, IN, TAPS = 4, 6, 3
"""Pixels along a side of a tile of outputs and of inputs, and of the kernel: 4 + 3 - 1 = 6."""
WIDE_MAPS = 256
LEAST_TILES = 32
"""From so many maps, and tiles of all images, on, this is faster. Forward and back, channels last, two cores with AVX2,
the direct time over that of tiles: with 512 maps 0.71 at 16 tiles, 1.1 at 32, 1.5 to 1.7 at 64, 2.1 to 2.5 from 128 on;
with 256 maps 0.99, 1.2 to 1.35, 0.9 to 1.4, 1.7 to 1.9. With 128 maps it is 1.15 (channels first 0.84) at 512."""

# The transforms for the points 0, 1, -1, 2, -2, infinity (Lavin and Gray, section 4.3).
_B_T = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_G = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_A_T = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64
)
# Along both axes at once, as one matrix over the pixels of a tile.
TO_TILES = torch.kron(_B_T, _B_T)  # [36, 36]
TO_KERNELS = torch.kron(_G, _G)  # [36, 9]
TO_PIXELS = torch.kron(_A_T, _A_T)  # [16, 36]


def centred_conv(x_NIHW: Tensor, weight_OIKK: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Stride 1, an odd kernel, zeros around: [N, O, H, W]."""
    side = weight_OIKK.shape[-1]
    if not takes_tiles(x_NIHW) or side != TAPS or len(weight_OIKK) < WIDE_MAPS:
        return F.conv2d(x_NIHW, weight_OIKK, bias_O, padding=side // 2)
    y = winograd(x_NIHW, weight_OIKK)
    return y if bias_O is None else y + bias_O[:, None, None]


def takes_tiles(x_NIHW: Tensor) -> bool:
    """Told by the shape alone, so that a run does not depend on how busy a machine was; never in compiled functions."""
    return (
        x_NIHW.device.type == "cpu"
        and x_NIHW.dtype == torch.float32
        and x_NIHW.shape[1] >= WIDE_MAPS
        and tile_count(x_NIHW) >= LEAST_TILES
        and not torch.compiler.is_compiling()
    )


def tile_count(x_NCHW: Tensor) -> int:
    """Of all images."""
    tall, wide = _grid(x_NCHW)
    return len(x_NCHW) * tall * wide


def _grid(x_NCHW: Tensor) -> tuple[int, int]:
    """Tiles of one image along its height and its width."""
    return -(-x_NCHW.shape[2] // OUT), -(-x_NCHW.shape[3] // OUT)


def winograd(x_NIHW: Tensor, weight_OIKK: Tensor) -> Tensor:
    """`centred_conv` without a bias, this way, in any shape and float format."""
    result: Tensor = _Convolution.apply(x_NIHW, weight_OIKK, False)
    return result


class _Convolution(Function):
    """The convolution, or as `adjoint` the one from its outputs back to its inputs: w turned round, I for O."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, adjoint: bool) -> Tensor:
        count, _, height, width = x.shape
        tall, wide = _grid(x)
        tiles_TPI = _transformed(x, IN, TO_TILES, tall, wide)
        mixed_TPO = torch.bmm(tiles_TPI, _kernels(weight, adjoint))
        pixels = TO_PIXELS.to(x.dtype) @ mixed_TPO.flatten(1)
        y = pixels.view(OUT, OUT, count, tall, wide, -1).permute(2, 3, 0, 4, 1, 5)
        y = y.reshape(count, tall * OUT, wide * OUT, -1)[:, :height, :width].permute(0, 3, 1, 2)
        return y.contiguous(memory_format=torch.channels_last if is_channels_last(x) else torch.contiguous_format)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        x, weight, ctx.adjoint = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        x_bar = _Convolution.apply(y_bar, weight, not ctx.adjoint) if ctx.needs_input_grad[0] else None
        ends = (y_bar, x) if ctx.adjoint else (x, y_bar)
        return x_bar, _WeightGradient.apply(*ends) if ctx.needs_input_grad[1] else None, None


class _WeightGradient(Function):
    """Σ over images and pixels of x_i, moved by each tap, times y_o: [O, I, 3, 3]."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        tall, wide = _grid(x)
        tiles_TPI = _transformed(x, IN, TO_TILES, tall, wide)
        pixels_TPO = _transformed(y, OUT, TO_PIXELS.t(), tall, wide)
        products_TOI = torch.bmm(pixels_TPO.transpose(1, 2), tiles_TPI)
        taps = TO_KERNELS.t().to(x.dtype) @ products_TOI.flatten(1)
        return taps.view(TAPS, TAPS, y.shape[1], x.shape[1]).permute(2, 3, 0, 1).contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, weight_bar: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        x_bar = _Convolution.apply(y, weight_bar, True) if ctx.needs_input_grad[0] else None
        return x_bar, _Convolution.apply(x, weight_bar, False) if ctx.needs_input_grad[1] else None


def _transformed(x_NCHW: Tensor, side: int, transform: Tensor, tall: int, wide: int) -> Tensor:
    """Tiles of `side` pixels, every OUT-th, transformed: [36, N · tiles, C]. The larger ones are centred.

    With the maps last in memory, so that a pixel of a tile is copied as one piece: six times as fast as the other way.
    """
    count, channels, height, width = x_NCHW.shape
    before, extra = (side - OUT) // 2, side - OUT
    padded = x_NCHW.new_zeros(count, tall * OUT + extra, wide * OUT + extra, channels)
    padded[:, before : before + height, before : before + width] = x_NCHW.permute(0, 2, 3, 1)
    image, row, pixel, _ = padded.stride()
    tiles = padded.as_strided((side, side, count, tall, wide, channels), (row, pixel, image, OUT * row, OUT * pixel, 1))
    return (transform.to(x_NCHW.dtype) @ tiles.reshape(side * side, -1)).view(IN * IN, -1, channels)


def _kernels(weight_OIKK: Tensor, adjoint: bool) -> Tensor:
    """G w Gᵀ as [36, I, O]; of the adjoint, [36, O, I]."""
    outputs, inputs = weight_OIKK.shape[:2]
    transform = TO_KERNELS.to(weight_OIKK.dtype)
    if adjoint:
        transform = transform.flip(1)  # instead of the weight
    kernels_TOI = (transform @ weight_OIKK.reshape(-1, TAPS * TAPS).t()).view(IN * IN, outputs, inputs)
    return kernels_TOI if adjoint else kernels_TOI.transpose(1, 2)
