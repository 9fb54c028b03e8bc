"""What one run of a study left, as the comparison needs it: read from its run directory, whoever made that."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jobs.report.embed import holds
from jobs.report.history import read_history
from jobs.report.model import MetricRow, Report, SampleGrid, Verdict

State = Literal["waiting", "running", "finished", "pruned", "failed"]
Key = tuple[str, str | None]
"""A metric and its feature space."""
TRAINED, UNTRAINED = "", "untrained"
ENDED: frozenset[State] = frozenset({"finished", "pruned", "failed"})


@dataclass(frozen=True)
class RunResult:
    """One run as it stands."""

    variant: str
    seed: int
    state: State
    place: str = ""
    """Its directory below that of the study, or the id of its job."""
    out: Path | None = None
    """Where its files are on this machine."""
    images: int = 0
    seconds: float = 0.0
    message: str = ""
    curves: dict[Key, list[tuple[int, float]]] = field(default_factory=dict)
    """(images, value) of the trained generator at every evaluation; the untrained one at 0."""
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    """Detector -> what it said last."""
    samples: tuple[SampleGrid, ...] = ()
    version: str = ""

    def trained(self, key: Key) -> list[tuple[int, float]]:
        """The curve of a metric without the untrained generator."""
        return trained_curve(self.curves, key)

    def value(self, key: Key) -> float | None:
        """The last value of a metric of a finished run."""
        curve = self.trained(key)
        return curve[-1][1] if curve and self.state == "finished" else None

    @property
    def values(self) -> dict[Key, float]:
        return {key: value for key in self.curves if (value := self.value(key)) is not None}


def read_run(variant: str, seed: int, out: Path, place: str, state: State | None = None) -> RunResult:
    """What lies in the run directory `out`. `state`: where somebody else knows better how it stands."""
    try:
        report = Report.load(out / "report.json")
    except (OSError, ValueError):
        started: State = "running" if (out / "events.jsonl").exists() else "waiting"
        return RunResult(variant, seed, state or started, place, out, curves=_curves_so_far(out), losses=_losses(out))
    return replace(
        from_report(report, variant, seed, state or _state(report), place),
        out=out,
        losses=_losses(out),
        samples=tuple(sample for sample in report.samples if holds(out, sample.path)),
    )


def from_report(report: Report, variant: str, seed: int, state: State, place: str) -> RunResult:
    """What a report alone says of a run: everything but curves of losses and pictures."""
    return RunResult(
        variant=variant,
        seed=seed,
        state=state,
        place=place,
        images=report.images,
        seconds=report.seconds,
        message=report.outcome_message or "",
        curves=curves_of(report.metrics),
        verdicts=last_verdicts(report.verdicts),
        version=report.versions.get("gankiln", ""),
    )


def curves_of(rows: tuple[MetricRow, ...]) -> dict[Key, list[tuple[int, float]]]:
    """(images, value) of the untrained and the trained generator, by metric and feature space."""
    points: dict[Key, dict[int, float]] = {}
    for row in rows:
        if row.label in (TRAINED, UNTRAINED) and row.value is not None:
            images = 0 if row.label == UNTRAINED else row.images or 0
            points.setdefault((row.metric, row.features), {})[images] = row.value
    return {key: sorted(values.items()) for key, values in points.items()}


def curve_so_far(out: Path, key: Key) -> list[tuple[int, float]]:
    """(images, value) of the evaluations that a running run has said so far, without the untrained one."""
    return trained_curve(_curves_so_far(out), key)


def trained_curve(curves: Mapping[Key, list[tuple[int, float]]], key: Key) -> list[tuple[int, float]]:
    """(images, value) without the untrained generator; a key without a feature space takes the first there is."""
    return [point for point in curves.get(known_key(curves, key), []) if point[0] > 0]


def known_key(curves: Iterable[Key], key: Key) -> Key:
    """`key`; where it names no feature space, with the one in which the metric was measured."""
    return key if key[1] is not None else next((known for known in curves if known[0] == key[0]), key)


def last_verdicts(verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    """Detector -> what it said last."""
    ordered = sorted(verdicts, key=lambda verdict: verdict.images or 0)
    return {verdict.detector: verdict.verdict for verdict in ordered}


def note_end(out: Path, state: State, message: str) -> None:
    """Remembers how a run ended that could not report it itself."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "ended.json").write_text(json.dumps({"state": state, "message": message}), encoding="utf-8")


def noted_end(out: Path) -> tuple[State, str] | None:
    """What `note_end` remembered."""
    try:
        said: Any = json.loads((out / "ended.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return (said["state"], str(said["message"])) if said.get("state") in ENDED else None


def _state(report: Report) -> State:
    match report.outcome:
        case "finished":
            return "finished"
        case "diverged" | "failed" | "cancelled":
            return "failed"
        case "running" | "interrupted":
            return "running"


def _curves_so_far(out: Path) -> dict[Key, list[tuple[int, float]]]:
    return curves_of(tuple(read_history(out).evaluations()))


def _losses(out: Path) -> dict[str, list[tuple[int, float]]]:
    series = read_history(out).series("losses")
    return {name: [(images, value) for images, value in points if value is not None] for name, points in series.items()}
