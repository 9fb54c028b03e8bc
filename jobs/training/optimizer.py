"""Adam with the correction of lazy regularisation, what float16 needs, and the step that most recipes take."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from jobs.spec.stylegan2 import Adam as AdamSection


def lazy_adam(parameters: Iterable[nn.Parameter], section: AdamSection, interval: int | None) -> Adam:
    """Adam whose rate and betas make up for an extra regularisation step every `interval` iterations.

    lr · c and βᶜ with c = interval / (interval + 1) (Karras et al. 2020, appendix B); None = no extra step.
    """
    assert section.learning_rate is not None, "a resolved spec has a learning rate"
    ratio = 1.0 if interval is None else interval / (interval + 1)
    beta1, beta2 = section.betas
    return Adam(
        list(parameters),
        lr=section.learning_rate * ratio,
        betas=(beta1**ratio if beta1 else 0.0, beta2**ratio),
        eps=section.epsilon,
        fused=True,
    )


@torch.no_grad()
def sanitise_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """float16 overflows now and then: nan -> 0, ±inf -> ±1e5, as the original does in place of loss scaling."""
    for parameter in parameters:
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)


def descend(network: nn.Module, optimizer: Optimizer) -> Tensor:
    """One step of `optimizer` with the gradients at hand, which are dropped then; returns their norm, on the device."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
