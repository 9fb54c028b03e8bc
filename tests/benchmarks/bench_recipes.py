"""Every recipe: images/s, time by phase of the step, peak memory beside what `check` predicts, and the roofline.

    python -m tests.benchmarks.bench_recipes [--recipes stylegan2 ...] [--resolutions 32 64] [--precisions fp32 bf16]
                                             [--width 64] [--batch 8] [--seconds 120]

A whole cycle of 16 iterations is timed, lazy penalties included. Without a GPU it is processor time of one thread. The
roofline: FLOPs and bytes that the step's operators read and write, phase by phase over what a large product and a large
copy reach in the same run; the share is that limit over the time taken. What does not fit into the seconds is named.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from jobs.spec.size import size
from jobs.training import fitting
from jobs.training.recipe import Recipe
from jobs.training.seeds import seed_step
from tests.benchmarks.cases import SPECS, Case, noise
from tests.benchmarks.rows import best_device, limits, now, say

CYCLE = 16
PHASES = {
    "_fool": "G", "_translate": "G", "_teach_generator": "G", "_rebuild_meanwhile": "D rebuilt",
    "_even_out_paths": "path length", "_tell_apart": "D", "_teach_judge": "D", "_penalise_gradient": "R1",
    "_select": "selector",
}  # fmt: skip
"""Methods of the recipes, by what they do. A sketch's and a talking face's penalties are inside of D."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Work(TorchDispatchMode):
    """Counts the FLOPs of operators and the bytes that they read and write; views cost nothing.

    By torch's own formulas; its FlopCounterMode hooks into modules, which a penalty's inner gradient does not allow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves = tree_leaves((args, kwargs, result))
            self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


@contextmanager
def by_phase(recipe: Recipe, read: Callable[[], Any], found: Callable[[str, Any, Any], None]) -> Iterator[None]:
    """Tells `found` of every call of a phase: its name, and what was read before and after."""

    def watched(work: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            before = read()
            result = work(*args, **kwargs)
            found(phase, before, read())
            return result

        return call

    module = type(recipe).__module__
    with ExitStack() as stack:
        for method, phase in PHASES.items():
            if (work := getattr(recipe, method, None)) is not None:
                stack.enter_context(mock.patch.object(recipe, method, watched(work, phase)))
        average = __import__(module, fromlist=["update_ema"]).update_ema
        stack.enter_context(mock.patch(f"{module}.update_ema", watched(average, "EMA")))
        yield


@dataclass(frozen=True)
class Step:
    """What an iteration takes in the mean of a cycle."""

    seconds: float
    phase_seconds: dict[str, float]
    limit_seconds: float
    flops: float
    bytes: float


def measure(case: Case, device: torch.device, seconds: float) -> Step | None:
    """None where a cycle would take longer than `seconds`."""
    job = case.job()
    recipe, batch = case.builder(device)(), noise(job)

    def cycle(iterations: range) -> float:
        started = now(device)
        for iteration in iterations:
            seed_step(0, iteration * case.batch)
            recipe.step(batch, iteration * case.batch)
        return now(device) - started

    warm = cycle(range(2))
    if warm * CYCLE > 2 * seconds:
        return None
    flops, moved = Counter[str](), Counter[str]()
    with Work() as counted:

        def add(phase: str, before: tuple[int, int], after: tuple[int, int]) -> None:
            flops[phase] = max(flops[phase], after[0] - before[0])
            moved[phase] = max(moved[phase], after[1] - before[1])

        with by_phase(recipe, lambda: (counted.flops, counted.bytes), add):
            cycle(range(2))
    calls, taken = Counter[str](), Counter[str]()

    def clock(phase: str, before: float, after: float) -> None:
        calls[phase] += 1
        taken[phase] += after - before

    with by_phase(recipe, lambda: now(device), clock):
        cycle(range(CYCLE))
    whole = cycle(range(CYCLE)) if device.type == "cuda" else sum(taken.values())  # phases wait for a GPU, runs do not
    product, copy = limits(device, DTYPES[case.precision])
    limit = sum(max(flops[phase] / product, moved[phase] / copy) * calls[phase] for phase in calls)
    total = {
        name: sum(counts[phase] * calls[phase] for phase in calls) for name, counts in (("f", flops), ("b", moved))
    }
    each = {phase: value / CYCLE for phase, value in taken.items()}
    return Step(whole / CYCLE, each, limit / CYCLE, total["f"] / CYCLE, total["b"] / CYCLE)


def peak_bytes(case: Case, device: torch.device) -> int:
    """Most bytes of tensors that live at once."""
    job = case.job()
    micro_batch = job.training.micro_batch or case.batch
    found = fitting.measure(case.builder(device), noise(job), micro_batch, False, 2**62, device, (0, 0, case.batch))
    assert isinstance(found, int)
    return found


def report(case: Case, step: Step, measured_bytes: int) -> None:
    predicted = size(case.job()).memory_bytes
    shares = {phase: seconds / step.seconds for phase, seconds in step.phase_seconds.items()}
    limit = step.limit_seconds / step.seconds
    said = ", ".join(f"{phase} {share:.0%}" for phase, share in sorted(shares.items(), key=lambda item: -item[1]))
    name = f"{case.recipe} {case.resolution}x{case.resolution} {case.precision}"
    say(
        f"{name:30} {case.batch / step.seconds:8.1f} images/s  {measured_bytes / 1e6:8.1f} MB "
        f"(predicted x{predicted / measured_bytes:.2f})  {limit:5.0%} of the roofline  {said}",
        name=name, width=case.width, batch=case.batch, images_per_second=case.batch / step.seconds,
        peak_bytes=measured_bytes, predicted_bytes=predicted, roofline_ratio=limit, flops=step.flops, bytes=step.bytes,
        phase_seconds=step.phase_seconds,
    )  # fmt: skip


def main() -> None:
    device = best_device()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=SPECS, default=list(SPECS))
    sides = [32, 64, 128, 256, *([1024] if device.type == "cuda" else [])]
    parser.add_argument("--resolutions", nargs="+", type=int, default=sides)
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--width", type=int, default=64, help="most maps of a layer")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=120.0, help="of all of it, on the wall")
    asked = parser.parse_args()
    ends = time.monotonic() + asked.seconds
    left_out = []
    for resolution in asked.resolutions:  # small ones first: of every recipe something
        for precision in asked.precisions:
            for recipe in asked.recipes:
                case = Case(recipe, resolution, asked.width, asked.batch, precision=precision)
                if recipe == "sketch" and precision != "fp32":
                    continue  # it computes in float32 always
                left = ends - time.monotonic()
                if left > 0 and (step := measure(case, device, left / 3)) is not None:
                    report(case, step, peak_bytes(case, device))
                else:
                    left_out.append(f"{recipe} {resolution} {precision}")
    if left_out:
        say(f"left out for want of time: {', '.join(left_out)}", left_out=left_out)


if __name__ == "__main__":
    main()
