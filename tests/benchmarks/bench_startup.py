"""How soon the first step is over: python -m tests.benchmarks.bench_startup

Seconds on the wall and of the processor: of `gankiln --help` and `gankiln check`; of what `gankiln run` imports; of a
tiny run until its first step, cold (nothing is decoded yet) and warm.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.benchmarks.rows import say
from tests.tiny import TINY

GANKILN = (sys.executable, "-m", "service")


def timed(name: str, work: Callable[[], None]) -> None:
    before, started = children_seconds(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - started, children_seconds() - before
    say(f"{name:34} {wall:6.2f} s, {cpu:6.2f} s of the processor", name=name, seconds=wall, cpu_seconds=cpu)


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(*words: str) -> None:
    subprocess.run([*GANKILN, *words], check=True, stdout=subprocess.DEVNULL)


def first_step(spec: Path, out: Path, home: Path) -> None:
    """Runs until the first step was told of, then ends the run."""
    words = [*GANKILN, "run", str(spec), "--out", str(out)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "GANKILN_HOME": str(home)}
    ) as run:
        assert run.stdout is not None
        told = (json.loads(line) for line in run.stdout if line.startswith("{"))
        assert any(event["event"] == "progress" for event in told), "the run ended before its first step"
        run.kill()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        spec = yaml.safe_load(TINY.read_text())
        spec["training"] |= {"images": 3200, "progress_seconds": 0.001}
        spec["evaluation"]["untrained"] = False
        path = here / "spec.yaml"
        path.write_text(yaml.safe_dump(spec))
        timed("gankiln --help", lambda: command("--help"))
        timed("gankiln check", lambda: command("check", str(path)))
        timed("import torch", lambda: imported("torch"))
        timed("import torch, jobs.run", lambda: imported("torch, jobs.run"))
        timed("torch.optim's first optimizer", lambda: imported("torch; torch.optim.Adam([torch.zeros(1)])"))
        for state in ("cold", "warm"):
            timed(f"run until its first step, {state}", lambda s=state: first_step(path, here / s, here / "home"))


def imported(modules: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)


if __name__ == "__main__":
    main()
