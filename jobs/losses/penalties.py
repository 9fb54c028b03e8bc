"""Penalties on gradients. Their value is a gradient itself (jobs/losses/slopes.py), so their own is of second order."""

import math

import torch
from torch import Tensor


def r1(gradient_NCHW: Tensor) -> Tensor:
    """‖∇D(x)‖² summed over pixels, mean over real images x (Mescheder et al. 2018); to be weighted with γ/2."""
    return gradient_NCHW.square().sum(dim=(1, 2, 3)).mean()


def unit_gradient(gradient_NCHW: Tensor, target: float = 1.0) -> Tensor:
    """(‖∇D(x)‖ - 1)², mean over images x (Gulrajani et al. 2017, Equation 3); to be weighted with λ.

    `target`: another length than 1.
    """
    norm_N = (gradient_NCHW.square().sum(dim=(1, 2, 3)) + 1e-12).sqrt()
    return (norm_N - target).square().mean()


def on_noise(image_NCHW: Tensor) -> Tensor:
    """An image times y ~ N(0, 1)/√(H·W), drawn here: its sum's gradient in w is Jᵀ_w y."""
    return image_NCHW * (torch.randn_like(image_NCHW) / math.sqrt(image_NCHW.shape[2] * image_NCHW.shape[3]))


def path_lengths(gradient_NLD: Tensor, *, summed: int = 1) -> Tensor:
    """‖Jᵀ_w y‖ of the gradient `on_noise`, root mean square over slots: [N] (Karras et al. 2020, Equation 4).

    A slot is `summed` neighbouring vectors of w: 1, or all that one layer reads (then √ of that as long).
    """
    return (gradient_NLD.square().sum(dim=2).mean(dim=1) * summed).sqrt()
