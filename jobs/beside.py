"""The other processes of a job on several devices: `python -m jobs.beside`, started by the one that leads.

    leader, jobs.run  ->  one line of JSON on standard input  ->  jobs.run here, as a member of its team

They end when the leader says so, or is gone. Signals are for the leader alone: it saves, and then says so.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

from jobs.data import Roots
from jobs.errors import DoesNotFit, GankilnError, InternalError
from jobs.run import Surroundings, run
from jobs.spec import load
from jobs.training.team import Meeting


def main() -> int:
    """Takes part in one job; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    leader = os.getppid()
    try:
        _take_part(json.loads(sys.stdin.readline()))
    except GankilnError as error:
        sys.stderr.write(f"gankiln: {error}\n")
        return error.exit_code
    except (torch.OutOfMemoryError, MemoryError) as error:
        sys.stderr.write(f"gankiln: {error}\n")
        return DoesNotFit.exit_code
    except Exception:
        if os.getppid() == leader:  # else it is gone, and has said why
            traceback.print_exc()
        return InternalError.exit_code
    return 0


def _take_part(said: dict[str, Any]) -> None:
    allowed = said["allowed"]
    around = Surroundings(
        out=Path(said["out"]),
        cache_dir=Path(said["cache_dir"]),
        roots=Roots(Path(said["relative_to"]), None if allowed is None else tuple(map(Path, allowed))),
        weights_dir=Path(said["weights_dir"]) if said["weights_dir"] else None,
        meeting=Meeting(*said["meeting"]),
    )
    run(load(json.dumps(said["job"]), "the leader's spec"), around)


if __name__ == "__main__":
    sys.exit(main())
