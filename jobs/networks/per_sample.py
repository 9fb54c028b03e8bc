"""Convolutions whose weights differ from image to image, and the algebra of two of them in a row.

A style S is a predicted kernel [N, J, I, k, k] that mixes the I input maps before the learned convolution W, which is
[O, J, K, K]. Nothing stands between them, so conv(W, S·x) = conv(W∘S, x) with

    (W∘S)[o, i, u] = Σ_j Σ_{a+b=u} W[o, j, a] · S[j, i, b]

(for k = 1: W[o, j, ·] against column i of S: the contraction runs over W's inputs and S's rows). Both sides see zeros
outside the picture; with k = 3, S·x is kept beyond its border, where it is not zero, for W to see.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.networks.winograd import centred_conv

EPSILON = 1e-8


class Convolved(NamedTuple):
    """Maps [N, O, H, W], and the factors [N, O] that they are still to be multiplied by, or None: whoever adds a bias
    multiplies on the way.
    """

    x: Tensor
    factor_NO: Tensor | None

    def scaled(self, gain: float, offset: Tensor) -> Tensor:
        """gain · (factor · x) + offset; `offset` broadcasts."""
        if self.factor_NO is None:
            return torch.add(offset, self.x, alpha=gain)
        return torch.addcmul(offset, self.x, self.factor_NO.to(self.x.dtype)[:, :, None, None], value=gain)


def convolve(x_NIHW: Tensor, weight_OIKK: Tensor, *, up: bool, padding: int) -> Tensor:
    """One convolution for all images; `up`: transposed with stride 2, where `padding` pixels are cut off instead."""
    weight = weight_OIKK.to(x_NIHW.dtype)
    if up:
        return F.conv_transpose2d(x_NIHW, weight.transpose(0, 1), stride=2, padding=padding)
    if padding == weight.shape[-1] // 2:
        return centred_conv(x_NIHW, weight)
    return F.conv2d(x_NIHW, weight, padding=padding)


def convolve_each(x_NIHW: Tensor, weight_NOIKK: Tensor, *, up: bool, padding: int) -> Tensor:
    """`convolve` with weights of its own for each image: one convolution of N groups."""
    count, outputs, inputs, kernel, _ = weight_NOIKK.shape
    x = _plain(x_NIHW, 1, count * inputs, *x_NIHW.shape[2:])
    weight = weight_NOIKK.to(x.dtype)
    if up:
        weight = _plain(weight.transpose(1, 2), count * inputs, outputs, kernel, kernel)
        x = F.conv_transpose2d(x, weight, stride=2, padding=padding, groups=count)
    else:
        weight = _plain(weight, count * outputs, inputs, kernel, kernel)
        x = F.conv2d(x, weight, padding=padding, groups=count)
    return x.reshape(count, outputs, *x.shape[2:])


def _plain(x: Tensor, *shape: int) -> Tensor:
    """`x` in `shape`, with the strides of a new tensor.

    For other strides that also count as contiguous (sides of length 1 may have any), torch 2.13's grouped convolution
    returns wrong gradients of its weights on a processor.
    """
    return x.flatten().view(shape)


def filter_norm(weight_NOIKK: Tensor) -> Tensor:
    """1 / √(Σ_ikk w² + ε) of each filter, [N, O] (Karras et al. 2020, Equation 3)."""
    return (weight_NOIKK.square().sum(dim=(2, 3, 4)) + EPSILON).rsqrt()


def compose(weight_OJKK: Tensor, style_NJIkk: Tensor, *, up: bool) -> Tensor:
    """W∘S, [N, O, I, K', K'] with K' = K + k - 1; where W up-samples, S skips pixels: K' = K + 2·(k - 1)."""
    outputs, inputs, kernel, _ = weight_OJKK.shape
    count, _, columns, side, _ = style_NJIkk.shape
    if side == 1:
        rows = weight_OJKK.permute(0, 2, 3, 1).reshape(outputs * kernel**2, inputs)
        composed = (rows @ style_NJIkk[:, :, :, 0, 0]).reshape(count, outputs, kernel, kernel, columns)
        return composed.permute(0, 1, 4, 2, 3)
    style = style_NJIkk.flip(3, 4) if up else style_NJIkk
    style = _plain(style, count * inputs, columns, side, side)
    composed = F.conv_transpose2d(weight_OJKK.repeat(1, count, 1, 1), style, groups=count, dilation=2 if up else 1)
    return composed.unflatten(1, (count, columns)).transpose(0, 1)


def styled_convolve(
    x_NIHW: Tensor, weight_OJKK: Tensor, style_NJIkk: Tensor, *, up: bool, baked: bool, fused: bool, demodulate: bool
) -> Convolved:
    """conv(W, S·x), and what brings each filter of W∘S to unit norm where that is asked for.

    `up` gives 2H + 1 pixels (to be blurred to 2H), else H. Norms are of the first J columns of S: a column after them
    is a bias. In float16 demodulation is always inside the weights, so that no product before it overflows.
    """
    inputs, kernel = weight_OJKK.shape[1:3]
    rim = style_NJIkk.shape[-1] - 1
    zeros = rim if up else (kernel - 1 + rim) // 2  # around x, for both in a row; cut off again when up-sampling
    made = compose(weight_OJKK, style_NJIkk, up=up) if baked or demodulate else None
    factor_NO = None if made is None or not demodulate else filter_norm(made[:, :, :inputs])
    if not baked or made is None:
        x = mixed(x_NIHW, style_NJIkk, padding=zeros)
        x = convolve(x, weight_OJKK, up=up, padding=0 if rim and not up else zeros)
    else:
        if factor_NO is not None and (fused or x_NIHW.dtype == torch.float16):
            made, factor_NO = made * factor_NO[:, :, None, None, None], None
        x = convolve_each(x_NIHW, made, up=up, padding=zeros)
    return Convolved(x, factor_NO)


def mixed(x_NIHW: Tensor, style_NJIkk: Tensor, *, padding: int) -> Tensor:
    """S·x; with k = 3 over `padding` zeros all around, with k = 1 where x is."""
    if style_NJIkk.shape[-1] == 1:
        x = style_NJIkk[:, :, :, 0, 0].to(x_NIHW.dtype) @ x_NIHW.flatten(2)
        return x.unflatten(2, x_NIHW.shape[2:])
    return convolve_each(x_NIHW, style_NJIkk, up=False, padding=padding)
