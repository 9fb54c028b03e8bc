"""What a person sees while `gankiln run` works: a progress bar on a terminal, one line at intervals elsewhere."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jobs.events import Event


class Terminal(Protocol):
    """Shows the events of a run."""

    progress_seconds: float | None

    def show(self, event: Event) -> None: ...

    def __enter__(self) -> "Terminal": ...

    def __exit__(self, *_: object) -> None: ...


def open_terminal(images: int) -> Terminal:
    """A bar where somebody looks, lines where a program reads."""
    return Bar(images) if sys.stdout.isatty() else Lines()


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for (done, total) of `what`, on the error stream; nothing where nobody looks."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class Lines:
    """One JSON object a line: for logs."""

    progress_seconds: float | None = None

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, event: Event) -> None:
        if event.get("verdict") == "healthy":
            return
        if event["event"] == "evaluation":
            rows = [_short(row) for row in event["rows"] if row.get("label", "") in ("", "untrained")]
            event = {**event, "rows": rows}
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


class Bar:
    """A live bar: images, speed, time left, losses."""

    progress_seconds: float | None = 1.0

    def __init__(self, images: int) -> None:
        self.console = Console()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}", style="dim"),
            console=self.console,
        )
        self.task = self.progress.add_task("preparing", total=images, speed="", losses="")

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, event: Event) -> None:
        match event["event"]:
            case "phase":
                self.progress.update(self.task, description=event["phase"])
            case "start":
                self.progress.update(self.task, completed=event["images"])
            case "progress":
                losses = " ".join(f"{name} {value:.3g}" for name, value in event["losses"].items())
                speed = f"{event['images_per_second']:.1f} images/s"
                self.progress.update(self.task, completed=event["images"], speed=speed, losses=losses)
            case "evaluation":
                for row in (row for row in event["rows"] if row.get("label", "") in ("", "untrained")):
                    self.console.print(_sentence(row), highlight=False)
            case _:
                for line in _lines(event):
                    self._say(line)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)


def _lines(event: Event) -> list[str]:
    """What is said in words alone."""
    match event["event"]:
        case "verdict" if event["verdict"] != "healthy":
            return [f"{event['verdict']}: {event['detector']}: {event['message']}", f"  try: {event['hint']}"]
        case "note" if event["message"]:
            return [f"note: {event['message']}"]
        case "profile":
            waiting = f"  waiting for data: {event['waiting_ratio']:.1%} of {event['seconds']:.3g} s"
            rows = [f"  {row['share']:6.1%}  {row['calls']:>6} x  {row['name']}" for row in event["operators"]]
            return [f"profile of {event['iterations']} iterations: {event['path']}", waiting, *rows]
        case _:
            return []


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("metric", "features", "value", "samples", "label") if key in row}


def _sentence(row: dict[str, Any]) -> str:
    label = f"{row['label']} generator: " if row.get("label") else ""
    return f"{label}{row['metric']} in {row['features']} = {row['value']:.4g} ({row['samples']} samples)"
