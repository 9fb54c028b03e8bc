"""Penalties on gradients. Their value is a gradient itself, so their own gradient is of second order.

A compiled network can be differentiated once only, so it is asked for as it is written ("force_eager").
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def r1(judge: Callable[[Tensor], Tensor], real_NCHW: Tensor) -> Tensor:
    """‖∇D(x)‖² summed over pixels, mean over real images (Mescheder et al. 2018); to be weighted with γ/2."""
    real = real_NCHW.detach().requires_grad_(True)
    with torch.compiler.set_stance("force_eager"):
        (gradient,) = torch.autograd.grad(judge(real).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def unit_gradient(judge: Callable[[Tensor], Tensor], at_NCHW: Tensor, target: float = 1.0) -> Tensor:
    """(‖∇D(x)‖ - 1)², mean over the images x = `at_NCHW` (Gulrajani et al. 2017, Equation 3); to be weighted with λ.

    `target`: another length than 1.
    """
    at = at_NCHW.detach().requires_grad_(True)
    with torch.compiler.set_stance("force_eager"):
        (gradient,) = torch.autograd.grad(judge(at).sum(), at, create_graph=True)
    norm_N = (gradient.square().sum(dim=(1, 2, 3)) + 1e-12).sqrt()
    return (norm_N - target).square().mean()


def path_lengths(image_NCHW: Tensor, w_NLD: Tensor, *, summed: int = 1) -> Tensor:
    """‖Jᵀ_w y‖ with y ~ N(0, 1)/√(H·W), root mean square over slots: [N] (Karras et al. 2020, Equation 4).

    A slot is `summed` neighbouring vectors of `w_NLD`: 1, or all that one layer reads (then √ of that as long).
    The noise is drawn here; `w_NLD` must have been given to the generator as it is.
    """
    noise = torch.randn_like(image_NCHW) / math.sqrt(image_NCHW.shape[2] * image_NCHW.shape[3])
    (gradient,) = torch.autograd.grad((image_NCHW * noise).sum(), w_NLD, create_graph=True)
    return (gradient.square().sum(dim=2).mean(dim=1) * summed).sqrt()
