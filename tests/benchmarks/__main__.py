"""The benchmarks, one after another, within a time: python -m tests.benchmarks  (or: make bench)

    python -m tests.benchmarks [--only recipes startup ...] [--minutes 10] [--json benchmarks.json]

Each prints its table; all of them, with date and device, go into one JSON file. Each says with --help what else it
measures, and runs by itself at any size: python -m tests.benchmarks.bench_recipes --resolutions 256 ...
Results that are kept: tests/benchmarks/RESULTS.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from jobs.training.device import device_name
from tests.benchmarks.rows import KEPT, best_device

SHORT = {
    "startup": [],
    "recipes": ["--seconds", "150"],
    "step": ["--seconds", "5", "--resolution", "32", "--widths", "demo"],
    "launches": [],
    "devices": ["--images", "960"],
    "data": [],
    "checkpoint": [],
    "shards": [],
    "evaluation": ["--images", "2000", "--threads", "1"],
    "injection": ["--rounds", "1"],
    "worker": ["--seconds", "10"],
    "queue": ["--finished", "10000", "--waiting", "1000"],
}
"""In the order of what is asked most; with arguments that keep each short."""


@dataclass(frozen=True)
class Outcome:
    """How a benchmark went."""

    name: str
    seconds: float
    ended: str
    """ran, failed, or: out of time."""
    printed: str
    rows: list[dict[str, Any]]


def run(name: str, left_seconds: float) -> Outcome:
    """Runs one, printing what it prints."""
    print(f"\n== {name}", flush=True)
    command = [sys.executable, "-u", "-m", f"tests.benchmarks.bench_{name}", *SHORT[name]]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        said, rows = Path(folder) / "printed", Path(folder) / "rows"
        rows.touch()
        with said.open("w") as file:
            process = subprocess.Popen(command, stdout=file, env={**os.environ, KEPT: str(rows)})
            shown = 0
            while process.poll() is None and time.monotonic() - started < left_seconds:
                time.sleep(0.2)
                shown = _show(said, shown)
            late = process.poll() is None
            if late:
                process.kill()
            process.wait()
        _show(said, shown)
        ended = "out of time" if late else "failed" if process.returncode else "ran"
        kept = [json.loads(line) for line in rows.read_text().splitlines()]
        return Outcome(name, round(time.monotonic() - started, 1), ended, said.read_text(), kept)


def _show(path: Path, start: int) -> int:
    """Prints what `path` has gained since `start`; returns where it ends."""
    text = path.read_text()
    print(text[start:], end="", flush=True)
    return len(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SHORT, default=list(SHORT))
    parser.add_argument("--minutes", type=float, default=10.0, help="of all of them; what comes too late is named")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks.json"))
    asked = parser.parse_args()
    ends = time.monotonic() + 60 * asked.minutes
    head = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "device": device_name(best_device()),
        "processor": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    outcomes = [
        run(name, ends - time.monotonic()) if time.monotonic() < ends else Outcome(name, 0, "out of time", "", [])
        for name in asked.only
    ]
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps({**head, "benchmarks": [asdict(outcome) for outcome in outcomes]}, indent=1))
    for ended in ("failed", "out of time"):
        if names := [outcome.name for outcome in outcomes if outcome.ended == ended]:
            print(f"\n{ended}: {', '.join(names)}")
    print(f"\nall of it: {asked.json}")
    return sum(outcome.ended == "failed" for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
