"""What the detectors say of a run that has been, by their limits as they are now: to move one, nothing is trained."""

from dataclasses import replace

from jobs.calibration.runs import IMAGES, Place
from jobs.diagnosis.detector import Detector, Level, Measured
from jobs.diagnosis.examination import Examination, Memory
from jobs.diagnosis.table import COMMON
from jobs.spec.diagnosis import Diagnosis

SAID_ELSEWHERE = ("wiring", "non_finite")
"""May stop a run between two checks: for these, what the run itself said counts too."""


def levels(place: Place, name: str, after_images: int = -1) -> dict[str, list[Level]]:
    """By detector: its verdict at every check past `after_images`."""
    examination = Examination(Diagnosis(), IMAGES, Memory())
    found: dict[str, list[Level]] = {}
    for images, said in place.statistics(name):
        for detector in COMMON:
            if detector.name not in said:
                continue
            for finding in examination.judge([_measured(detector, said[detector.name])], None, images):
                if images > after_images:
                    found.setdefault(detector.name, []).append(finding.verdict)
    for verdict in place.verdicts(name):
        if verdict["detector"] in SAID_ELSEWHERE and verdict["images"] > after_images:
            found.setdefault(verdict["detector"], []).append(verdict["verdict"])
    return found


def _measured(detector: Detector[None], value: float) -> Detector[None]:
    return replace(detector, measure=lambda _: Measured(value))
