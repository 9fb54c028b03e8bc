"""From numbers to verdicts: limits, grace, patience, and what was said before. All of it can be saved and restored."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.diagnosis.detector import Detector, Finding, InputT, Level, Limit, Measured
from jobs.spec.diagnosis import DETECTORS, Action, DetectorName, Diagnosis

GRACE_SHARE, GRACE_LEAST_IMAGES, GRACE_MOST_IMAGES = 0.3, 5_000, 200_000
"""Before, no generator is expected to show anything; a collapse at 200,000 images is still found early."""

NOT_UNDONE: tuple[DetectorName, ...] = ("memory_growth", "learning_rate")
"""Going back does not undo what belongs to the process or to the schedule: for these, a rollback is only said."""


@dataclass
class Memory:
    """What a run must know of its earlier checks; saved with its progress."""

    levels: dict[str, Level] = field(default_factory=dict)
    """By detector: what it said last."""
    in_a_row: dict[str, int] = field(default_factory=dict)
    """By detector: failing checks one after another, up to now."""
    learning_rates: dict[str, float] = field(default_factory=dict)
    """By optimizer: at the start of the run."""
    untrained_distance: float | None = None
    gradients: dict[str, list[float]] = field(default_factory=dict)
    """By discriminator: ‖∇D(real)‖² at every check."""
    most_modes: float = 0.0
    best_recall: float = 0.0
    good_images: int | None = None
    """The newest scheduled checkpoint at which everything that may roll back was healthy."""
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    """What each rollback was for, from where to where, and the change."""

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


class Examination:
    """The detectors of a run, with the overrides of its spec."""

    def __init__(self, section: Diagnosis, planned_images: int, memory: Memory) -> None:
        self.section, self.memory = section, memory
        grace = min(max(int(GRACE_SHARE * planned_images), GRACE_LEAST_IMAGES), GRACE_MOST_IMAGES)
        self.grace_images = grace if section.grace_images is None else section.grace_images

    def judge(self, detectors: Iterable[Detector[InputT]], given: InputT, images: int) -> Iterator[Finding]:
        """A verdict of each detector that applies and can tell. Numbers before the grace is over are healthy."""
        for detector in detectors:
            if self.section.override(detector.name).enabled and (measured := detector.measure(given)) is not None:
                yield self._finding(detector, measured, images)

    def action(self, finding: Finding) -> Action:
        """What this verdict leads to."""
        named = [name for name in DETECTORS if name == finding.detector]
        return self._action(named[0]) if named and finding.verdict == "failure" else "log"

    def _action(self, name: DetectorName) -> Action:
        action = self.section.action(name)
        return "log" if action == "rollback" and name in NOT_UNDONE else action

    def may_return_here(self) -> bool:
        """Whether every detector whose failure rolls back said healthy when it last looked."""
        return all(
            self.memory.levels.get(name, "healthy") == "healthy"
            for name in DETECTORS
            if self._action(name) == "rollback"
        )

    def _finding(self, detector: Detector[Any], measured: Measured, images: int) -> Finding:
        level, limit = self._level(detector, measured.value, images)
        self.memory.levels[detector.name] = level
        return Finding(
            detector=detector.name,
            verdict=level,
            images=images,
            value=measured.value,
            threshold=limit.value,
            message=_message(detector, measured, level, limit),
            hint=detector.hint,
            picture=measured.picture if level != "healthy" else None,
        )

    def _level(self, detector: Detector[Any], value: float, images: int) -> tuple[Level, Limit]:
        failure, warning = self._limits(detector)
        if detector.graceful and images < self.grace_images:
            return "healthy", failure
        fails = _is_bad(detector, value, failure)
        row = self.memory.in_a_row.get(detector.name, 0) + 1 if fails else 0
        self.memory.in_a_row[detector.name] = row
        if row >= detector.patience:
            return "failure", failure
        if fails or (warning is not None and _is_bad(detector, value, warning)):
            return "warning", failure if fails or warning is None else warning
        return "healthy", failure

    def _limits(self, detector: Detector[Any]) -> tuple[Limit, Limit | None]:
        written = self.section.override(detector.name)
        failure, warning = detector.failure, detector.warning
        if written.threshold is not None:
            failure = Limit(written.threshold, "written in the spec")
            warning = warning if warning is not None and _is_bad(detector, failure.value, warning) else None
        if written.warning is not None:
            warning = Limit(written.warning, "written in the spec")
        return failure, warning


def _is_bad(detector: Detector[Any], value: float, limit: Limit) -> bool:
    return value > limit.value if detector.bad == "above" else value < limit.value


def _message(detector: Detector[Any], measured: Measured, level: Level, limit: Limit) -> str:
    seen = f"{detector.watches}: {measured.value:.4g}" + (f" ({measured.detail})" if measured.detail else "")
    if level == "healthy":
        return _capital(seen)
    why = f"{level} {detector.bad} {limit.value:.4g} ({limit.origin})"
    return f"{_capital(detector.means)}. {_capital(seen)}; {why}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
