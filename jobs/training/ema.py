"""The averaged generator."""

import copy
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def frozen_copy(module: ModuleT) -> ModuleT:
    """A copy that no optimizer moves."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def ema_beta(batch: int, images: int, half_life_images: float, ramp: float) -> float:
    """β = 0.5^(batch / half_life), half_life at most `ramp` · images shown while that is short (Karras et al. 2020)."""
    if ramp > 0:
        half_life_images = min(half_life_images, images * ramp)
    return 0.5 ** (batch / max(half_life_images, 1e-8))


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, beta: float) -> None:
    """Moves the parameters of `average` towards `module`'s by 1 - β; buffers (w_average ...) are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - beta)
    if buffers := list(module.buffers()):
        torch._foreach_copy_(list(average.buffers()), buffers)
