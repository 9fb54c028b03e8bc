"""Gradients that a penalty is made of: they can be differentiated themselves.

Plainly, autograd keeps the graph of the gradient it makes. What is compiled can be differentiated once only, so there
the inner gradient is part of what is compiled (torch.func), and the penalty's own gradient is the one that is left.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Function = Callable[..., Tensor]


def slope(function: Function, at: Tensor) -> Tensor:
    """∇ Σ f(x) at x = `at`, of its shape; where `at` was computed from parameters, they get a gradient too.

    Modules in `function` are called as they are written, compiled or not.
    """
    at = at if at.requires_grad else at.detach().requires_grad_(True)
    with torch.compiler.set_stance("force_eager"):
        (gradient,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
    return gradient


class Slope(nn.Module):
    """∇ Σ f(x, ...) in x, as a module that may be compiled. What `function` is made of stays no part of it."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, at: Tensor, *given: Tensor | None) -> Tensor:
        """At x = `at`, of its shape."""
        if torch.compiler.is_compiling():
            gradient: Tensor = torch.func.grad(lambda x: self.function(x, *given).sum())(at)
            return gradient
        return slope(lambda x: self.function(x, *given), at)


def slope_before(change: Function, slope_after: Function, at: Tensor) -> Tensor:
    """∇ Σ f(c(x)) at x = `at`: Jᵀ_c of what `slope_after` says ∇ Σ f is at c(x)."""
    at = at.detach().requires_grad_(True)
    changed = change(at)
    after = slope_after(changed.detach())
    if changed is at:
        return after
    (gradient,) = torch.autograd.grad(changed, at, after, create_graph=True)
    return gradient
