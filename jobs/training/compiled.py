"""torch.compile of the modules that a step spends its time in.

What a compiled function gives can be differentiated once, so the gradients that penalties are made of are compiled
themselves (jobs/losses/slopes.py). What sees other shapes than training does asks for the plain function
(`torch.compiler.set_stance("force_eager")`): each shape compiles anew.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

CACHE = "compiled"


def compile_in_place(
    modules: Iterable[nn.Module], cache_dir: Path, backend: str = "inductor", *, cuda_graphs: bool = False
) -> None:
    """Calls of `modules` are compiled when they first happen, for a minute or so each; kept in `cache_dir`.

    Random numbers stay those of the plain function. With `cuda_graphs` (of inductor, on a GPU) what a call gives lives
    until the next `begin_step`.
    """
    from torch._inductor import config  # takes a second, only from those who compile

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir / CACHE))
    config.fallback_random = True
    for module in modules:
        module.compile(backend=backend, dynamic=False, mode="reduce-overhead" if cuda_graphs else None)


def begin_step() -> None:
    """Before each step with `cuda_graphs`: memory of what the step before it computed is used again."""
    torch.compiler.cudagraph_mark_step_begin()
