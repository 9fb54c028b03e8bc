"""Penalties on gradients. Their value is a gradient itself, so their own gradient is of second order."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def r1(judge: Callable[[Tensor], Tensor], real_NCHW: Tensor) -> Tensor:
    """‖∇D(x)‖² summed over pixels, mean over real images (Mescheder et al. 2018); to be weighted with γ/2."""
    real = real_NCHW.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(judge(real).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(image_NCHW: Tensor, w_NLD: Tensor) -> Tensor:
    """‖Jᵀ_w y‖ with y ~ N(0, 1)/√(H·W), root mean square over layers: [N] (Karras et al. 2020, Equation 4).

    The noise is drawn here; `w_NLD` must have been given to the generator as it is.
    """
    noise = torch.randn_like(image_NCHW) / math.sqrt(image_NCHW.shape[2] * image_NCHW.shape[3])
    (gradient,) = torch.autograd.grad((image_NCHW * noise).sum(), w_NLD, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()
