"""Resampling with the [1, 3, 3, 1] filter, as one small matrix along each axis.

Up-sampling, blurring and down-sampling with a separable FIR filter are linear along rows and along columns, so each is
Y = A_H · X · A_Wᵀ with banded matrices. Two matrix products beat a depthwise convolution on CPUs and on tensor cores,
need no padded copy, and are exact: borders are zero-padded as in the original.
"""

import torch
from torch import Tensor, nn

TAPS = (1.0, 3.0, 3.0, 1.0)


def fir_matrix(size: int, *, up: int = 1, down: int = 1, padding: tuple[int, int], gain: float = 1.0) -> Tensor:
    """The matrix [outputs, size] of: insert up-1 zeros after each value, pad, filter, keep every `down`-th value."""
    taps = torch.tensor(TAPS, dtype=torch.float64)
    taps = taps / taps.sum() * gain
    stretched = size * up
    outputs = (stretched + sum(padding) - len(taps)) // down + 1
    matrix = torch.zeros(outputs, size, dtype=torch.float64)
    for output in range(outputs):
        for tap, weight in enumerate(taps):
            position = output * down + tap - padding[0]
            if 0 <= position < stretched and position % up == 0:
                matrix[output, position // up] = weight
    return matrix.float()


class Resample(nn.Module):
    """[N, C, S, S] -> [N, C, S', S'] by one matrix along both axes. Not learned, so not in checkpoints."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.matrix.to(x.dtype)
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            return _resample_nhwc(x.permute(0, 2, 3, 1), matrix).permute(0, 3, 1, 2)
        return matrix @ x @ matrix.t()


def _resample_nhwc(x: Tensor, matrix: Tensor) -> Tensor:
    """Both products stay in the channels-last layout: columns as [W', W] x [W, C], rows as [H', H] x [H, W'C]."""
    count, height, _, channels = x.shape
    x = matrix @ x
    x = matrix @ x.reshape(count, height, -1)
    return x.reshape(count, matrix.shape[0], -1, channels)


def upsample2(size: int) -> Resample:
    """S -> 2S, for images: zero insertion, filter with gain 2 an axis."""
    return Resample(fir_matrix(size, up=2, padding=(2, 1), gain=2.0))


def downsample2(size: int) -> Resample:
    """S -> S/2: filter, keep every second value."""
    return Resample(fir_matrix(size, down=2, padding=(1, 1)))


def blur_after_transposed(size: int) -> Resample:
    """2S+1 -> 2S, after a transposed 3x3 convolution with stride 2 (gain 2 an axis makes up for the zeros)."""
    return Resample(fir_matrix(2 * size + 1, padding=(1, 1), gain=2.0))


def blur_before_strided(size: int) -> Resample:
    """S -> S+1, before a 3x3 convolution with stride 2 and no padding."""
    return Resample(fir_matrix(size, padding=(2, 2)))
