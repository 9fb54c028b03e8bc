"""Back to the last healthy checkpoint, and on with a stated change.

Nothing has to be saved at that moment: checks are functions of the run's state, so a run that is killed after a
rollback trains to the same failure again, and goes back in the same way. Later checkpoints carry the change.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs.diagnosis.detector import Finding
from jobs.errors import Diverged
from jobs.events import EventLog
from jobs.training import state
from jobs.training.probe import Adjustable
from jobs.training.recipe import Recipe
from jobs.training.state import Checkpoint, Progress
from jobs.watch import GoBackError, Stopped, Watch


@dataclass(frozen=True)
class Change:
    """One rollback, as the progress keeps it; the factors are the ones in force from then on."""

    detector: str
    from_images: int
    to_images: int
    learning_rate_factor: float
    r1_gamma_factor: float

    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.detector} failed at {self.from_images:,} images: back to {self.to_images:,}, and on with learning "
            f"rates x {self.learning_rate_factor:g} and r1.gamma x {self.r1_gamma_factor:g} of the spec's"
        )


@dataclass(frozen=True)
class Rollbacks:
    """What going back needs of a run."""

    watch: Watch
    recipe: Recipe
    fresh: Callable[[], Recipe]
    """The recipe as it was before the first step."""
    progress: Progress
    checkpoints: Path
    events: EventLog

    def train(self, attempt: Callable[[], None]) -> None:
        """Runs `attempt`, which trains from `progress` on, until it ends by itself. Raises what it raises."""
        self._adjust()
        while (finding := self._failure_of(attempt)) is not None:
            self._go_back(finding)

    def _failure_of(self, attempt: Callable[[], None]) -> Finding | None:
        """The verdict that asks to go back; None where `attempt` came to its end."""
        try:
            attempt()
        except GoBackError as asked:
            return asked.finding
        except Diverged as error:
            finding = self.watch.diverged(self.progress, error)
            if finding is None:
                raise
            return finding
        return None

    def _go_back(self, finding: Finding) -> None:
        """Restores the last healthy checkpoint, or the beginning. Raises Stopped where the spec allows no more."""
        section, earlier = self.watch.section.rollback, self.watch.memory.rollbacks
        self._refuse(finding, len(earlier))
        target = self._last_healthy()
        count = len(earlier) + 1
        change = Change(
            finding.detector,
            finding.images,
            target.images if target else 0,
            section.learning_rate_factor**count,
            section.r1_gamma_factor**count,
        )
        self.events.write("end", images=change.from_images, outcome="rolled back", message=change.sentence())
        restored = self._restore(target)
        memory: dict[str, Any] = {**restored.get("memory", {}), "rollbacks": [*earlier, asdict(change)]}
        self.progress.images, self.progress.diagnosis = change.to_images, {**restored, "memory": memory}
        self.watch.restore(self.progress.diagnosis)
        self._adjust()
        self.events.write("start", images=change.to_images, attempt=self.progress.attempts)
        self.events.write("note", images=change.to_images, message=change.sentence())
        message = f"{change.sentence()}. {finding.message}"
        self.watch.say(replace(finding, images=change.to_images, message=message))

    def _refuse(self, finding: Finding, earlier: int) -> None:
        why = None
        if earlier >= self.watch.section.rollback.limit:
            why = f"after {earlier} rollbacks, which is the limit"
        elif not isinstance(self.recipe, Adjustable):
            why = "and this recipe cannot go on with a change"
        if why:
            raise Stopped(f"{finding.detector}: {finding.message} ({why})", hint=finding.hint)

    def _last_healthy(self) -> Checkpoint | None:
        """The checkpoint to return to; None for the beginning. Where it is lost, the newest one before it."""
        good = self.watch.memory.good_images
        kept = [checkpoint for checkpoint in state.complete(self.checkpoints) if checkpoint.images <= (good or 0)]
        return kept[-1] if kept else None

    def _restore(self, target: Checkpoint | None) -> dict[str, Any]:
        """Puts `target` into the recipe; checkpoints after it are deleted. Returns what was known then."""
        for checkpoint in state.complete(self.checkpoints):
            if target is None or checkpoint.images > target.images:
                shutil.rmtree(checkpoint.path)
        if target is not None:
            return state.restore(self.checkpoints, self.recipe)[0].diagnosis
        state.begin_anew(self.recipe, self.fresh())
        untrained = {"untrained_distance": self.watch.memory.untrained_distance}
        return {"memory": {**untrained, "learning_rates": self.watch.memory.learning_rates}}

    def _adjust(self) -> None:
        """Puts the change of the last rollback in force: after a restart, too."""
        if self.watch.memory.rollbacks and isinstance(self.recipe, Adjustable):
            change = self.watch.memory.rollbacks[-1]
            self.recipe.adjust(
                learning_rate_factor=change["learning_rate_factor"], r1_gamma_factor=change["r1_gamma_factor"]
            )
