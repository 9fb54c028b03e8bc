"""Detectors against planted failures: which one finds what, and which one is wrong about it."""

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.calibration.planted import BEGINNING, PLANTED, Planted
from jobs.calibration.runs import Place, healthy_spec
from jobs.diagnosis import memory_growth, snapshot
from jobs.diagnosis.inputs import Snapshot
from jobs.diagnosis.table import ALL
from jobs.errors import Diverged
from jobs.training import state

COLUMNS = ("wiring", *(detector.name for detector in ALL))
MARKS = {"failure": "F", "warning": "w", "healthy": "."}
SEVERITY = ("healthy", "warning", "failure")


@dataclass(frozen=True)
class Row:
    """One planted failure, or one healthy run."""

    name: str
    what: str
    expected: tuple[str, ...]
    levels: dict[str, str]
    """By detector: the worst verdict from the moment of planting on; absent where it said nothing."""

    @property
    def found(self) -> bool:
        """Whether every detector that must fail did."""
        return all(self.levels.get(detector) == "failure" for detector in self.expected)


def plant(place: Place, planted: type[Planted]) -> Row:
    """Goes on from a healthy run with one thing wrong."""
    name = f"planted-{planted.__name__}"
    if not (place.out(name) / "done").exists():
        _begin(place, planted, name)
        with contextlib.suppress(Diverged):  # that is a verdict too
            place.run(healthy_spec(planted.data, 0, place), name, planted, planted.to_images)
        (place.out(name) / "done").touch()
    return Row(name.removeprefix("planted-"), planted.what, planted.expected, _worst(place, name, planted.from_images))


def _begin(place: Place, planted: type[Planted], name: str) -> None:
    """The healthy run up to the moment of planting, as if it had been stopped there."""
    out, healthy = place.out(name), place.out(f"healthy-{planted.data}-0")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if planted.from_images == BEGINNING:
        return
    for file in ("spec.yaml", "events.jsonl"):
        shutil.copy(healthy / file, out / file)
    checkpoint = next(found for found in state.complete(healthy / "checkpoints") if found.images == planted.from_images)
    shutil.copytree(checkpoint.path, out / "checkpoints" / checkpoint.path.name)


def _worst(place: Place, name: str, from_images: int) -> dict[str, str]:
    levels: dict[str, str] = {}
    for verdict in place.verdicts(name):
        if verdict["images"] > from_images or from_images == BEGINNING:
            before = levels.get(verdict["detector"], "healthy")
            levels[verdict["detector"]] = max(before, verdict["verdict"], key=SEVERITY.index)
    return levels


def healthy_row(place: Place, name: str) -> Row:
    """A healthy run: nothing may be found."""
    return Row(name, "nothing", (), _worst(place, name, BEGINNING))


def leak() -> Row:
    """Memory that is really taken and kept, measured as in a run, with 256 MiB left to have."""
    kept, points, images = [], [], 0
    for _ in range(8):
        kept.append(bytearray(b"x" * (8 << 20)))
        images += 800
        points.append((images, snapshot.memory_bytes()))
    seen = Snapshot(images, 10 * images, {}, {}, points, 256 << 20)
    measured, limit = memory_growth.measure(seen), memory_growth.DETECTOR.failure.value
    fails = measured is not None and measured.value > limit
    level = "failure" if fails else "healthy"
    return Row("Leak", "every step keeps memory (fixture)", ("memory_growth",), {"memory_growth": level})


def rows(place: Place, healthy: Sequence[str]) -> list[Row]:
    """Every healthy run, every planted failure."""
    return [*(healthy_row(place, name) for name in healthy), *(plant(place, planted) for planted in PLANTED), leak()]


def table(found: Iterable[Row]) -> str:
    """For people: F failure, w warning, . healthy; in brackets what was expected and not found."""
    lines = [
        f"| run | planted | found | {' | '.join(column.replace('_', ' ') for column in COLUMNS)} |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for row in found:
        marks = [MARKS.get(row.levels.get(column, ""), " ") for column in COLUMNS]
        marks = [f"**{mark}**" if column in row.expected else mark for column, mark in zip(COLUMNS, marks, strict=True)]
        verdict = "-" if not row.expected else "yes" if row.found else "NO"
        lines.append(f"| {row.name} | {row.what} | {verdict} | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"
