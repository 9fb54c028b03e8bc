"""Adam with the correction of lazy regularisation, what float16 needs, and the step that most recipes take."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from jobs.spec.stylegan2 import Adam as AdamSection
from jobs.training.flat import in_one
from jobs.training.team import ALONE, Team


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


def sanitise_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """float16 overflows now and then: nan -> 0, ±inf -> ±1e5, as the original does in place of loss scaling."""
    if gradients := [parameter.grad for parameter in parameters if parameter.grad is not None]:
        in_one(gradients, lambda flat: torch.nan_to_num(flat, nan=0.0, posinf=1e5, neginf=-1e5, out=flat))


def descend(network: nn.Module, optimizer: Optimizer, team: Team = ALONE, *, half_precision: bool = False) -> Tensor:
    """One step of `optimizer` with the gradients at hand, averaged over the team; returns their norm, on the device.

    They are dropped then; in half precision they are made finite before.
    """
    team.average_gradients(network)
    if half_precision:
        sanitise_gradients(network.parameters())
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def set_rates(optimizers: Mapping[str, Optimizer], rates: Mapping[str, float], factor: float) -> None:
    """Learning rates by the optimizer's name, times `factor`."""
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = rates[name] * factor
