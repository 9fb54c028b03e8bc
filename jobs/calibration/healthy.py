"""The range of every detector's value over healthy runs, beside its limits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.calibration.runs import IMAGES, Place
from jobs.diagnosis.detector import Detector
from jobs.diagnosis.examination import Examination, Memory
from jobs.diagnosis.table import ALL
from jobs.spec.diagnosis import Diagnosis


@dataclass(frozen=True)
class Range:
    """One detector over all healthy runs."""

    detector: str
    bad: str
    checks: int
    median: float | None
    percentile_99: float | None
    """On the bad side: of values that are bad when small, the first percentile."""
    worst: float | None
    warning: float | None
    failure: float
    warnings: int
    failures: int
    """Verdicts that the runs really gave."""
    origin: str


def ranges(place: Place, names: Sequence[str]) -> list[Range]:
    """One row a detector."""
    grace = Examination(Diagnosis(), IMAGES, Memory()).grace_images
    return [_range(place, names, detector, grace if detector.graceful else 0) for detector in ALL]


def _range(place: Place, names: Sequence[str], detector: Detector[object], grace: int) -> Range:
    values = [
        said[detector.name]
        for name in names
        for images, said in place.statistics(name)
        if detector.name in said and images >= grace
    ]
    levels = [v["verdict"] for name in names for v in place.verdicts(name) if v["detector"] == detector.name]
    high = detector.bad == "above"
    return Range(
        detector=detector.name,
        bad=detector.bad,
        checks=len(values),
        median=_number(np.median(values)) if values else None,
        percentile_99=_number(np.percentile(values, 99 if high else 1)) if values else None,
        worst=_number(max(values) if high else min(values)) if values else None,
        warning=detector.warning.value if detector.warning else None,
        failure=detector.failure.value,
        warnings=levels.count("warning"),
        failures=levels.count("failure"),
        origin=detector.failure.origin,
    )


def _number(value: float) -> float:
    """Four significant digits: the rest is noise of the machine."""
    value = float(value)
    return round(value, 3 - math.floor(math.log10(abs(value)))) if value else 0.0


def table(rows: Iterable[Range]) -> str:
    """For people."""
    lines = [
        "| detector | bad | checks | median | 99th percentile | worst | warning | failure | warnings | failures |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = (row.median, row.percentile_99, row.worst, row.warning, row.failure)
        shown = " | ".join("-" if number is None else f"{number:.3g}" for number in numbers)
        lines.append(f"| {row.detector} | {row.bad} | {row.checks} | {shown} | {row.warnings} | {row.failures} |")
    return "\n".join(lines) + "\n"
