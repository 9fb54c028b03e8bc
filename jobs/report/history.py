"""What events.jsonl says of a run: its curves, its attempts, its sample grids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.events import Event, parse_lines, read_events
from jobs.report.model import Attempt, Checkpoint, MetricRow, Profile, SampleGrid, Verdict

EVENTS = "events.jsonl"


@dataclass(frozen=True, slots=True)
class History:
    """A run as one unbroken line: what was said past a checkpoint that a later attempt went back to is dropped."""

    events: list[Event]
    attempts: tuple[Attempt, ...]

    def of(self, kind: str) -> list[Event]:
        """All events of one kind."""
        return [event for event in self.events if event["event"] == kind]

    def series(self, group: str) -> dict[str, list[tuple[int, float | None]]]:
        """The numbers of `group` ("losses", "statistics") by name, as (images, value)."""
        series: dict[str, list[tuple[int, float | None]]] = {}
        for event in (*self.of("progress"), *self.of("statistics")):
            values = event.get(group)
            for name, value in values.items() if isinstance(values, dict) else ():
                series.setdefault(str(name), []).append((_whole(event.get("images")), _number(value)))
        return series

    def scalar(self, name: str) -> list[tuple[int, float | None]]:
        """One number of every progress event, as (images, value); empty where none was said."""
        points = [(_whole(event.get("images")), _number(event.get(name))) for event in self.of("progress")]
        return points if any(value is not None for _, value in points) else []

    def samples(self) -> tuple[SampleGrid, ...]:
        """Sample grids in order, one for an image count."""
        return tuple(SampleGrid(images=images, path=path) for images, path in _paths(self.of("samples")).items())

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Checkpoints in order."""
        said = {_whole(event.get("images")): event for event in self.of("checkpoint")}
        return tuple(
            Checkpoint(
                images=images,
                path=path,
                seconds=_number(said[images].get("seconds")),
                bytes=_whole(said[images].get("bytes")) or None,
            )
            for images, path in _paths(self.of("checkpoint")).items()
        )

    def evaluations(self) -> list[MetricRow]:
        """Metric rows as they were said; a row that is none is passed over."""
        return [row for event in self.of("evaluation") for said in event.get("rows", ()) if (row := _row(said))]

    def verdicts(self) -> list[Verdict]:
        """Verdicts as they were said."""
        return [verdict for event in self.of("verdict") if (verdict := _verdict(event))]

    def profile(self) -> Profile | None:
        """The newest profile; None where there is none, or what was said is none."""
        said = self.of("profile")
        try:
            return Profile.model_validate({name: said[-1].get(name) for name in Profile.model_fields}) if said else None
        except ValidationError:
            return None

    def notes(self) -> tuple[str, ...]:
        """Decisions worth knowing, each once."""
        return tuple(dict.fromkeys(str(event.get("message", "")) for event in self.of("note")))


def read_history(out: Path) -> History:
    """The history in the run directory `out`; an empty one where nothing was said."""
    path = out / EVENTS
    if not path.exists():
        return History([], ())
    with path.open(encoding="utf-8", errors="replace") as file:
        every = list(parse_lines(list(file)))
    return History(read_events(path), attempts(every))


def attempts(events: Iterable[Event]) -> tuple[Attempt, ...]:
    """One attempt a `start` event; an attempt that no `end` event closed was cut off."""
    starts: list[list[Event]] = []
    for event in events:
        if event["event"] == "start":
            starts.append([])
        if starts:
            starts[-1].append(event)
    return tuple(
        _attempt(index, said, starts[index + 1][0] if index + 1 < len(starts) else None)
        for index, said in enumerate(starts)
    )


def _attempt(index: int, said: Sequence[Event], following: Event | None) -> Attempt:
    start, last = said[0], said[-1]
    reached = max(_whole(event.get("images")) for event in said)
    started, ended = _number(start.get("time")), _number(last.get("time"))
    ends = [str(event.get("outcome", "ended")) for event in said if event["event"] == "end"]
    return Attempt(
        attempt=_whole(start.get("attempt")) or index + 1,
        from_images=_whole(start.get("images")),
        to_images=reached,
        started=started,
        seconds=None if started is None or ended is None else max(0.0, ended - started),
        outcome=ends[-1] if ends else "running" if following is None else "cut off",
        images_lost=max(0, reached - _whole(following.get("images"))) if following else 0,
    )


def _paths(events: Sequence[Event]) -> dict[int, str]:
    paths = {_whole(event.get("images")): str(event["path"]) for event in events if event.get("path")}
    return dict(sorted(paths.items()))


def _row(said: Any) -> MetricRow | None:
    try:
        return MetricRow.model_validate(_known(said, MetricRow))
    except ValueError:
        return None


def _verdict(event: Event) -> Verdict | None:
    """The verdict of an event, under `verdict` or as the event's own fields."""
    said = event["verdict"] if isinstance(event.get("verdict"), dict) else event
    try:
        return Verdict.model_validate({"images": event.get("images"), **_known(said, Verdict)})
    except ValueError:
        return None


def _known(said: Any, model: type[BaseModel]) -> dict[str, Any]:
    """What `model` has fields for: an event may say more."""
    return {name: value for name, value in said.items() if name in model.model_fields} if isinstance(said, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int:
    number = _number(value)
    return 0 if number is None else int(number)
