"""The range of every detector's value over healthy runs, beside its limits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

import numpy as np

from jobs.calibration import replay
from jobs.calibration.runs import IMAGES, Place
from jobs.diagnosis.detector import Detector, Level
from jobs.diagnosis.examination import Examination, Memory
from jobs.diagnosis.table import COMMON
from jobs.spec.diagnosis import Diagnosis

WORDS = """What the detectors measure in healthy runs

Where the limits in jobs/diagnosis/*.py come from. The 99th percentile is taken on the bad side (of values that are bad
when small: the first); among fewer than a hundred checks it lies next to the worst. Checks before the grace is over
(30 % of a run, at least 5,000 images) count only for detectors that judge them.
"""


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
    """Verdicts at these checks."""
    origin: str


def ranges(place: Place, names: Sequence[str]) -> list[Range]:
    """One row a detector."""
    grace = Examination(Diagnosis(), IMAGES, Memory()).grace_images
    levels = [replay.levels(place, name) for name in names]
    return [
        _range(
            detector,
            [
                said[detector.name]
                for name in names
                for images, said in place.statistics(name)
                if detector.name in said and images >= (grace if detector.graceful else 0)
            ],
            [level for said in levels for level in said.get(detector.name, ())],
        )
        for detector in COMMON
    ]


def _range(detector: Detector[Any], values: Sequence[float], levels: Sequence[Level]) -> Range:
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


def _number(value: SupportsFloat) -> float:
    """Four significant digits: the rest is noise of the machine."""
    number = float(value)
    return round(number, 3 - math.floor(math.log10(abs(number)))) if number else 0.0


def table(rows: Iterable[Range]) -> str:
    """For people."""
    lines = [
        "| detector | bad | checks | median | 99th percentile | worst | warning | failure | warnings | failures | the "
        "failure's limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = (row.median, row.percentile_99, row.worst, row.warning, row.failure)
        shown = " | ".join("-" if number is None else f"{number:.3g}" for number in numbers)
        lines.append(
            f"| {row.detector} | {row.bad} | {row.checks} | {shown} | {row.warnings} | {row.failures} | {row.origin} |"
        )
    return "\n".join(lines) + "\n"
