"""The two commands; see the package."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from jobs.calibration import confusion, healthy
from jobs.calibration.runs import BATCH, CHECK_IMAGES, IMAGES, SEEDS, SETS, Place, run_healthy

EXAMPLES = Path(__file__).parent.parent / "examples"
HEALTHY, CONFUSION = "diagnosis-calibration", "diagnosis-confusion"


def main() -> None:
    """Runs what is still missing below --work, prints the table, and keeps it."""
    parser = argparse.ArgumentParser(prog="python -m jobs.calibration", description=__doc__)
    parser.add_argument("command", choices=("healthy", "confusion"))
    parser.add_argument("--work", type=Path, required=True, help="where the runs go; a later call goes on from there")
    parser.add_argument("--keep", type=Path, default=EXAMPLES, help="where the table is kept")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    place = Place(arguments.work.resolve())
    names = run_healthy(place, SETS, SEEDS)
    if arguments.command == "healthy":
        ranges = healthy.ranges(place, names)
        _keep(
            arguments.keep / HEALTHY, "healthy", healthy.WORDS, [asdict(row) for row in ranges], healthy.table(ranges)
        )
        return
    rows = confusion.rows(place, names)
    _keep(
        arguments.keep / CONFUSION, "confusion", confusion.WORDS, [asdict(row) for row in rows], confusion.table(rows)
    )
    missed = [row.name for row in rows if not row.found]
    wrong = [row.name for row in rows if not row.expected and "failure" in row.levels.values()]
    if missed or wrong:
        sys.exit(f"not found: {', '.join(missed) or 'none'}; failures in healthy runs: {', '.join(wrong) or 'none'}")


def _keep(path: Path, command: str, words: str, rows: Sequence[dict[str, Any]], table: str) -> None:
    """Prints the table, and writes it with what was run beside the rows for programs."""
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "command": f"python -m jobs.calibration {command} --work DIR",
        "torch": torch.__version__,
        "sets": SETS,
        "seeds": SEEDS,
        "images": IMAGES,
        "batch": BATCH,
        "check_images": CHECK_IMAGES,
    }
    path.with_suffix(".json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    head = (
        f"# {words}\n"
        f"{facts['date']}, torch {torch.__version__}, one thread of an x86 CPU. `{facts['command']}`\n"
        f"Healthy runs: {', '.join(SETS)} x seeds {', '.join(map(str, SEEDS))}; StyleGAN2 at 32x32, {IMAGES:,} images "
        f"in batches of {BATCH}, a check every {CHECK_IMAGES} (jobs/calibration/runs.py).\n\n"
    )
    path.with_suffix(".md").write_text(head + table, encoding="utf-8")
    sys.stdout.write(table)


main()
