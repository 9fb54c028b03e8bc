"""Adam with the correction of lazy regularisation, and the step that float16 needs."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Adam

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
        foreach=True,
    )


@torch.no_grad()
def sanitise_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """float16 overflows now and then: nan -> 0, ±inf -> ±1e5, as the original does in place of loss scaling."""
    for parameter in parameters:
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)
