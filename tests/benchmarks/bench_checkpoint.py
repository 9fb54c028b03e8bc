"""What a checkpoint costs: python -m tests.benchmarks.bench_checkpoint [--width 256] [--resolution 64]

Of a StyleGAN2: the copy that training waits for, the writing beside it (hashed and synced), and reading it back; on the
wall, with the bytes a second. The limit is a copy of the same bytes in memory, and a plain file written and synced.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from jobs.training import state
from jobs.training.state import Progress
from tests.benchmarks.cases import Case, noise
from tests.benchmarks.rows import best_device, say


def least_seconds(work: Callable[[], object], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def written(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--resolution", type=int, default=64)
    asked = parser.parse_args()
    case = Case("stylegan2", asked.resolution, asked.width, batch=4)
    recipe = case.builder(best_device())()
    recipe.step(noise(case.job()), 0)  # optimizers have their moments
    progress = Progress(64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        taken = state.snapshot(progress, recipe, {"spec": "{}"})
        saved = state.save(folder, taken, keep=1)
        size, plain = saved.size_bytes, torch.zeros(saved.size_bytes, dtype=torch.uint8)
        content = plain.numpy().tobytes()
        rows = {
            "copied, while training waits": lambda: state.snapshot(progress, recipe, {"spec": "{}"}),
            "  limit: a copy in memory": plain.clone,
            "written beside training": lambda: state.save(folder, taken, keep=1),
            "  limit: a plain file": lambda: written(folder / "plain", content),
            "read back": lambda: state.restore(folder, recipe),
        }
        print(f"a checkpoint of {size / 1e6:.0f} MB")
        for name, work in rows.items():
            seconds = least_seconds(work)
            say(f"{name:30} {1000 * seconds:9.1f} ms {size / seconds / 1e6:9.0f} MB/s", name=name.strip(), bytes=size,
                seconds=seconds)  # fmt: skip


if __name__ == "__main__":
    main()
