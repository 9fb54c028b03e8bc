"""What the optimizers and the process hold at one moment, without a copy of any weight."""

from collections.abc import Iterator, Mapping
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jobs.diagnosis.inputs import Moving

LEAST_SIZE = 1e-3
"""A tensor that starts at 0 (biases, noise strengths) counts as if its numbers were this large."""


@torch.no_grad()
def movements(networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> dict[str, Moving]:
    """What the last step of Adam did to every tensor that it has moved, by path; read from its moments.

    Δθ = lr · m̂ / (√v̂ + ε) (Kingma and Ba 2015, Algorithm 1). One transfer from the device.
    """
    names = {id(tensor): f"{network}.{path}" for network, module in networks.items()
             for path, tensor in module.named_parameters()}  # fmt: skip
    rows: dict[str, Tensor] = {}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            for tensor, state in _adam_states(optimizer, group):
                rows[names.get(id(tensor), "a tensor of no network")] = _movement(tensor, state, group)
    if not rows:
        return {}
    values = torch.stack(list(rows.values())).tolist()
    return {path: Moving(*row) for path, row in zip(rows, values, strict=True)}


def _adam_states(optimizer: Optimizer, group: dict[str, Any]) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    for tensor in group["params"]:
        state = optimizer.state.get(tensor, {})
        if "exp_avg_sq" in state:
            yield tensor, state


def _movement(tensor: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """[relative update, gradient's root mean square]"""
    steps = torch.as_tensor(state["step"], dtype=torch.float64, device=tensor.device)
    beta1, beta2 = group["betas"]
    mean = state["exp_avg"].double() / (1 - beta1**steps)
    square = state["exp_avg_sq"].double() / (1 - beta2**steps)
    update = group["lr"] * mean / (square.sqrt() + group["eps"])
    size = torch.linalg.vector_norm(tensor.double()).clamp(min=LEAST_SIZE * tensor.numel() ** 0.5)
    return torch.stack([torch.linalg.vector_norm(update) / size, square.mean().sqrt()])


def learning_rates(optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
    """By optimizer; the largest of its groups."""
    return {name: max(float(group["lr"]) for group in opt.param_groups) for name, opt in optimizers.items()}


def memory_bytes() -> int:
    """In use now: of the GPU where one is used, else of this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.memory_allocated())
    return int(psutil.Process().memory_info().rss)


def free_bytes() -> int:
    """What could still be had: of the GPU where one is used, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        free, _ = torch.cuda.mem_get_info()
        return int(free) + int(torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
    return int(psutil.virtual_memory().available)
