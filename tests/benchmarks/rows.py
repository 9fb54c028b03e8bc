"""What benchmarks have in common: rows that are printed and kept, time that suits the device, and its limits."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

KEPT = "BENCHMARK_ROWS"
"""Environment variable: the file that rows are appended to, one JSON object a line."""


def say(line: str, **row: Any) -> None:
    """Prints `line`; its numbers are kept as `row`."""
    print(line, flush=True)
    if KEPT in os.environ:
        with Path(os.environ[KEPT]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now(device: torch.device) -> float:
    """Seconds: of a GPU on the wall, when its work is done; else of this process on a processor.

    Others that share a machine lengthen its wall time by any factor, its processor time by little. One thread is
    assumed: several that wait for each other burn time.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def fastest(work: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """Seconds of the fastest of some calls, after one that warms up: what else a machine does only ever adds."""
    work()
    taken = []
    for _ in range(times):
        started = now(device)
        work()
        taken.append(now(device) - started)
    return min(taken)


def limits(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """What the device does at most, measured here: (FLOP/s of a large matrix product, bytes/s of a large copy)."""
    large = device.type == "cuda"
    side, numbers = (8192, 2**28) if large else (1024, 2**25)
    a, b = torch.randn(2, side, side, device=device, dtype=dtype)
    x = torch.zeros(numbers, device=device)
    y = torch.zeros_like(x)
    flops = 2 * side**3 / fastest(lambda: a @ b, device)
    return flops, 2 * 4 * numbers / fastest(lambda: y.copy_(x), device)
