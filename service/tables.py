"""What commands print: tables for people, JSON for programs. Text from the store is never trusted to be plain."""

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.queue import Depth, JobView, Overview, Why

if TYPE_CHECKING:
    from service.studies import StudyView

WIDE = 160  # columns of a pipe or a file, which has no width of its own

_COLOURS = {
    "queued": "cyan",
    "claimed": "yellow",
    "paused": "magenta",
    "succeeded": "green",
    "failed": "red",
    "dead": "red",
    "cancelled": "bright_black",
}


def plain(text: str) -> str:
    """Without control characters and terminal sequences: a job's output must not drive somebody's terminal."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf") else "�" for c in text)


def print_json(value: Any) -> None:
    """One JSON document; models become plain values."""
    sys.stdout.write(json.dumps(_plain_value(value), indent=1) + "\n")


def print_lines(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(plain(line) + "\n")


def print_text(text: str) -> None:
    """A piece of a log as it is, without what could drive a terminal."""
    sys.stdout.write(plain(text))
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """A table; the column `status` is coloured on a terminal."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in ("images", "attempts") else "left")
    for row in rows:
        table.add_row(*(_cell(column, value) for column, value in zip(columns, row, strict=True)))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(table)


def print_overview(overview: Overview) -> None:
    """`gankiln status`."""
    print_lines(depth_sentence(overview.depth))
    for title, views in (
        ("Running", overview.running),
        ("Waiting", overview.waiting),
        ("Paused", overview.paused),
        ("Finished lately", overview.finished),
    ):
        if views:
            print_lines("")
            columns = ("id", "name", "status", "images", "speed", "attempts", "where", "remark")
            print_table(columns, [_row(view) for view in views], title=title)


def print_studies(studies: "Sequence[StudyView]") -> None:
    """The open studies, under the overview."""
    if not studies:
        return
    rows = [
        (
            study.id,
            study.name,
            ", ".join(f"{count} {state}" for state, count in study.runs.items() if count),
            "" if study.best is None else f"{study.best:.4g} ({study.best_variant})",
            study.answer,
        )
        for study in studies
    ]
    print_lines("")
    print_table(("id", "name", "runs", "best so far", "answer so far"), rows, title="Studies")


def print_job(view: JobView) -> None:
    """`gankiln status JOB`: the job, and every entry of its log."""
    state = view.state
    facts = [
        ("id", state.id),
        ("name", state.name),
        ("status", state.status),
        ("priority", str(state.priority)),
        ("progress", " ".join(filter(None, [_images(view), _speed(view)]))),
        ("attempts", f"{state.attempts}: {state.failures} failed, {state.interruptions} given back, {state.lost} lost"),
        ("where", _where(view)),
        ("remark", _remark(view)),
    ]
    print_table(("", "status"), [fact for fact in facts if fact[1]])
    print_lines("")
    rows = [(str(entry.index), entry.kind, entry.writer, entry.note) for entry in view.history]
    print_table(("#", "entry", "by", "what"), rows)


def print_why(why: Why) -> None:
    """`gankiln why JOB`."""
    print_lines(f"{why.id} is {why.status}. {why.sentence}", *(f"  {detail}" for detail in why.details))
    print_lines(f"next: {why.next_command}")


def depth_sentence(depth: Depth) -> str:
    """The queue in one line."""
    parts = [
        (depth.inbox, "in the inbox"),
        (depth.waiting, "waiting"),
        (depth.delayed, "waiting for a retry"),
        (depth.running, "running"),
        (depth.paused, "paused"),
        (depth.dead, "failed or dead"),
    ]
    return ", ".join(f"{count} {what}" for count, what in parts if count) or "The queue is empty."


def _row(view: JobView) -> tuple[str, ...]:
    state = view.state
    return (
        state.id,
        state.name,
        state.status,
        _images(view),
        _speed(view),
        str(state.attempts),
        _where(view),
        _remark(view),
    )


def _images(view: JobView) -> str:
    progress = view.heartbeat.progress if view.heartbeat else None
    if progress is None:
        return ""
    if not progress.total_images:
        return f"{progress.images:,}"
    return f"{progress.images:,} of {progress.total_images:,} ({progress.images / progress.total_images:.0%})"


def _speed(view: JobView) -> str:
    progress = view.heartbeat.progress if view.heartbeat and view.state.status == "claimed" else None
    if progress is None:
        return ""
    speed = f" {progress.images_per_second:,.1f} images/s" if progress.images_per_second else ""
    return progress.phase + speed


def _where(view: JobView) -> str:
    return view.state.worker if view.state.status == "claimed" else ""


def _remark(view: JobView) -> str:
    state = view.state
    if state.status == "claimed" and (view.heartbeat_age_seconds or 0) > 60:
        return f"not heard for {view.heartbeat_age_seconds:.0f} s"
    if state.cancel and not state.terminal:
        return "asked to stop"
    if state.failure and state.status != "succeeded":
        return f"{state.failure.reason}: {state.failure.message.splitlines()[0] if state.failure.message else ''}"[:100]
    return ""


def _cell(column: str, value: str) -> Text:
    return Text(plain(value), style=_COLOURS.get(value, "") if column == "status" else "")


def _plain_value(value: Any) -> Any:
    match value:
        case BaseModel():
            return value.model_dump(mode="json")
        case dict():
            return {key: _plain_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain_value(item) for item in value]
        case _:
            return value
