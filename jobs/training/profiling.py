"""A profile of some iterations: a trace for a viewer (chrome://tracing, ui.perfetto.dev), and where their time went.

It looks on: nothing of it draws, computes or waits in a step; a profiled run ends with the same weights, bit for bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, schedule

from jobs.events import EventLog
from jobs.training.loop import STEP, WAITING, Hooks

TRACE = "profile.json.gz"
WARM_UP = 4
"""Iterations before: the first ones choose kernels and make buffers."""
OPERATORS = 12
"""Rows of the table."""


@contextmanager
def profiled(hooks: Hooks, iterations: int, out: Path, events: EventLog) -> Iterator[Hooks]:
    """`hooks` under which `iterations` are profiled, after the warm-up; as they are where none are asked for.

    The trace lands in the run directory `out`, the table is said as an event.
    """
    if not iterations:
        yield hooks
        return
    shown = 0

    def observe(images: int, scalars: dict[str, Tensor]) -> None:
        nonlocal shown
        shown = images
        hooks.observe(images, scalars)
        profiler.step()

    def write(profiler: profile) -> None:
        profiler.export_chrome_trace(str(out / TRACE))
        events.write("profile", images=shown, path=TRACE, **_facts(list(profiler.key_averages())))

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    phases = schedule(wait=WARM_UP - 1, warmup=1, active=iterations, repeat=1)
    with profile(activities=kinds, schedule=phases, on_trace_ready=write, acc_events=True) as profiler:
        yield replace(hooks, observe=observe)


def _facts(rows: list[Any]) -> dict[str, Any]:
    """What report.json holds of a profile."""
    named = {row.key: row for row in rows if row.key in (STEP, WAITING)}
    seconds = sum(row.cpu_time_total for row in named.values()) / 1e6
    waited = named[WAITING].cpu_time_total / 1e6 if WAITING in named else 0.0
    return {
        "iterations": named[STEP].count if STEP in named else 0,
        "seconds": round(seconds, 6),
        "waiting_ratio": round(waited / max(seconds, 1e-9), 4),
        "operators": _table(rows),
    }


def _table(rows: list[Any]) -> list[dict[str, Any]]:
    """The operators, or kernels of a GPU, that took most by themselves; `share` is of all of them."""
    work = [row for row in rows if not row.is_user_annotation]
    on_device = any(row.self_device_time_total for row in work)
    taken = {id(row): row.self_device_time_total if on_device else row.self_cpu_time_total for row in work}
    total = max(sum(taken.values()), 1e-9)
    most = sorted(work, key=lambda row: -taken[id(row)])[:OPERATORS]
    return [
        {"name": row.key, "seconds": round(taken[id(row)] / 1e6, 6), "share": round(taken[id(row)] / total, 4),
         "calls": row.count}
        for row in most
    ]  # fmt: skip
