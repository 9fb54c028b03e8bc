"""Bilinear sampling that can be differentiated twice, as the penalty on the gradient of an augmented image needs.

torch's own has no second derivative. Sampling is linear in the image, y = A·x, so the gradient is Aᵀ·g, and the
gradient of that is A again: two operators that are each other's backward pass. The grid gets no gradient.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BILINEAR, _REFLECTION = 0, 2


def sample(x_NCHW: Tensor, grid_NHW2: Tensor) -> Tensor:
    """`x` at the places of `grid` (x, y in [-1, 1], pixels' outer edges), reflected at the border."""
    sampled: Tensor = _Sample.apply(x_NCHW, grid_NHW2)
    return sampled


class _Sample(torch.autograd.Function):
    """A·x"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = x.shape
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        transposed: Tensor = _Transposed.apply(gradients[0], grid, ctx.shape)
        return transposed, None


class _Transposed(torch.autograd.Function):
    """Aᵀ·g"""

    @staticmethod
    def forward(ctx: Any, g: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        anything = g.new_zeros(shape)  # Aᵀ does not depend on x
        transposed, _ = torch.ops.aten.grid_sampler_2d_backward(
            g, anything, grid, _BILINEAR, _REFLECTION, False, [True, False]
        )
        return transposed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return sample(gradients[0], grid), None, None
