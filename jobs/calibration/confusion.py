"""Detectors against planted failures: which one finds what, and which one is wrong about it."""

import contextlib
import mmap
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.calibration import replay
from jobs.calibration.planted import BEGINNING, PLANTED, Planted
from jobs.calibration.runs import IMAGES, Place, healthy_spec
from jobs.diagnosis import memory_growth, snapshot
from jobs.diagnosis.inputs import Snapshot
from jobs.diagnosis.table import COMMON
from jobs.errors import Diverged
from jobs.training import state

COLUMNS = ("wiring", *(detector.name for detector in COMMON))
MARKS = {"failure": "F", "warning": "w", "healthy": "."}
WORDS = """Detectors against planted failures

F failure, w warning, . healthy, blank: had nothing to say; in bold what a planted failure must raise. A planted failure
goes on from a healthy run with one thing wrong (jobs/calibration/planted.py), so other detectors may well see it too.
Healthy runs must raise no failure.
"""
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
            stop_images = planted.to_images if planted.to_images < IMAGES else None  # its end is evaluated too
            place.run(healthy_spec(planted.data, 0, place), name, planted, stop_images)
        (place.out(name) / "done").touch()
    after_images = planted.from_images if planted.from_images != BEGINNING else -1
    return Row(name.removeprefix("planted-"), planted.what, planted.expected, _worst(place, name, after_images))


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


def _worst(place: Place, name: str, after_images: int = -1) -> dict[str, str]:
    said = replay.levels(place, name, after_images)
    return {detector: max(levels, key=SEVERITY.index) for detector, levels in said.items()}


def healthy_row(place: Place, name: str) -> Row:
    """A healthy run: nothing may be found."""
    return Row(name, "nothing", (), _worst(place, name))


def leak() -> Row:
    """Memory that is really taken and kept, measured as in a run, with 256 MiB left to have.

    Mapped anew each time: what a process has freed before would be taken first, and nothing would grow.
    """
    kept, points, images = [], [], 0
    for _ in range(8):
        kept.append(mmap.mmap(-1, 8 << 20))
        kept[-1].write(b"x" * (8 << 20))
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
    """For people."""
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
