"""Activation checkpointing: forget what modules computed, and compute it again for the backward pass."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def set_recompute(modules: Iterable[nn.Module], *, on: bool) -> None:
    """From now on each of `modules` keeps only its input; `on` false takes that back. Results stay the same."""
    for module in modules:
        vars(module).pop("forward", None)
        if on:
            vars(module)["forward"] = partial(checkpoint, module.forward, use_reentrant=False)


def recomputable(networks: Mapping[str, nn.Module]) -> Iterator[nn.Module]:
    """The blocks of `networks`: what stands in their lists of modules, and gives the same when it runs twice.

    Batch normalisation does not: it would count its statistics twice.
    """
    for network in networks.values():
        yield from _blocks(network)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if not any(isinstance(part, _BatchNorm) for part in block.modules()))
        else:
            yield from _blocks(child)
