"""What a run said: one unbroken line of curves, and every attempt."""

import json
from pathlib import Path
from typing import Any

from jobs.events import EventLog
from jobs.report.history import attempts, read_history
from tests.fake_run import RESUMED_AT, write_run


def event(kind: str, images: int = 0, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "time": 1000.0 + images, "images": images, **fields}


def say(out: Path, *events: dict[str, Any]) -> Path:
    (out / "events.jsonl").write_text("".join(json.dumps(said) + "\n" for said in events))
    return out


def test_what_was_said_past_the_resume_is_forgotten(tmp_path: Path) -> None:
    history = read_history(write_run(tmp_path))
    images = [point for point, _ in history.series("losses")["generator"]]
    assert images == sorted(set(images))
    assert images[-1] == 200_000
    assert len(history.samples()) == 21


def test_attempts_say_where_they_began_and_what_was_lost(tmp_path: Path) -> None:
    first, second = read_history(write_run(tmp_path)).attempts
    assert (first.from_images, first.to_images, first.outcome, first.images_lost) == (0, 97_000, "cut off", 7_000)
    assert (second.from_images, second.to_images, second.outcome) == (RESUMED_AT, 200_000, "finished")
    assert second.seconds == 10_000


def test_the_last_attempt_without_an_end_is_running() -> None:
    (only,) = attempts([event("start"), event("progress", 50)])
    assert (only.outcome, only.to_images, only.seconds) == ("running", 50, 50)


def test_no_events_are_an_empty_history(tmp_path: Path) -> None:
    history = read_history(tmp_path)
    assert (history.events, history.attempts, history.samples(), history.scalar("waiting_ratio")) == ([], (), (), [])


def test_events_written_by_the_log_come_back(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write("start", images=0, attempt=1)
    log.write("progress", images=32, losses={"g": 1.0}, waiting_ratio=0.5)
    log.write("note", message="fp32")
    log.write("note", message="fp32")
    log.write("samples", images=32, path="samples/000000032.png")
    history = read_history(tmp_path)
    assert history.series("losses") == {"g": [(32, 1.0)]}
    assert history.scalar("waiting_ratio") == [(32, 0.5)]
    assert history.notes() == ("fp32",)
    assert [(grid.images, grid.path) for grid in history.samples()] == [(32, "samples/000000032.png")]


def test_rows_and_verdicts_that_are_none_are_passed_over(tmp_path: Path) -> None:
    good = {"metric": "fd", "features": "pixels", "value": 3.0, "newly_added": 1}
    verdict = {"detector": "collapse", "verdict": "healthy", "value": 0.8}
    out = say(
        tmp_path,
        event("start"),
        event("evaluation", 10, rows=[good, {"metric": "fd"}, "text", None]),
        event("evaluation", 20, rows=[{**good, "value": None}]),
        event("evaluation", 30, rows="none"),
        event("verdict", 10, **verdict),
        event("verdict", 20, verdict=verdict),
        event("verdict", 30, verdict="unheard of"),
    )
    history = read_history(out)
    assert [row.value for row in history.evaluations()] == [3.0, None]
    assert [(verdict.detector, verdict.images) for verdict in history.verdicts()] == [
        ("collapse", 10),
        ("collapse", 20),
    ]


def test_torn_lines_and_strange_values_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(
        b'{"event": "start", "images": 0}\n'
        b'{"event": "progress", "images": 5, "losses": {"g": "high", "d": true, "r1": 2}}\n'
        b'{"event": "progress", "images": 6, "losses": [1, 2]}\n'
        b'{"event": "samples", "images": 5}\n'
        b"\xff\xfe not json\n"
        b'{"event": "progress", "ima'
    )
    history = read_history(tmp_path)
    assert history.series("losses") == {"g": [(5, None)], "d": [(5, None)], "r1": [(5, 2.0)]}
    assert history.samples() == ()
