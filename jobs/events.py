"""events.jsonl: what a run says while it runs, one JSON object a line.

It is the only channel out of a running job: the report draws its curves from it, the worker its metrics and log lines.
Every event has `event` (its kind), `time` (unix seconds) and, where it makes sense, `images` (real images shown).
A run that resumes at an earlier image count writes `start` with that count; readers then forget what was said past it.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

EventKind = Literal[
    "start",  # images (0, or where it resumes), attempt
    "progress",  # images, seconds, images_per_second, losses{}, statistics{}, waiting_ratio, memory_bytes,
    #              time_seconds{}: where the time went since the first step, over all attempts
    "samples",  # images, path
    "checkpoint",  # images, path, seconds, bytes
    "evaluation",  # images, rows[]
    "verdict",  # images, one verdict
    "statistics",  # images, statistics{}: what was measured at a check, between two progress events
    "phase",  # phase: preparing | training | evaluating | reporting
    "profile",  # images, iterations, seconds, waiting_ratio, operators[], path
    "note",  # message: a decision that a person should know of
    "end",  # images, seconds, outcome
]
Event = dict[str, Any]


class EventLog:
    """Appends events to `events.jsonl`; one line a write, so that a reader never sees half of one for long."""

    def __init__(self, path: Path, watch: Callable[[Event], None] | None = None) -> None:
        """`watch` sees each event too (to draw it on a terminal); its failures never reach the run."""
        self.path, self.watch = path, watch
        self._one_at_a_time = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        _end_last_line(path)

    def write(self, event: EventKind, **fields: Any) -> None:
        said: Event = {"event": event, "time": round(time.time(), 3), **fields}
        line = json.dumps(said, allow_nan=False, default=float)
        with self._one_at_a_time:  # checkpoints and pictures are written beside training, and speak too
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            if self.watch is not None:
                with contextlib.suppress(Exception):
                    self.watch(said)


def _end_last_line(path: Path) -> None:
    """A killed process may have left half a line: end it, so that the next event stands on its own."""
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def parse_lines(lines: Iterator[str] | list[str]) -> Iterator[Event]:
    """The events in `lines`; a torn line (from a kill) is passed over."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


def read_events(path: Path) -> list[Event]:
    """All events of a run in order, those past a resume point dropped: what an unbroken run would have said."""
    if not path.exists():
        return []
    kept: list[Event] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for event in parse_lines(list(file)):
            if event["event"] == "start":
                resumed_at = event.get("images", 0)
                kept = [earlier for earlier in kept if earlier.get("images", 0) <= resumed_at]
            kept.append(event)
    return kept
