"""Lost recall: images of the data that lay among the samples no longer do."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Scores

LEAST = 0.05
"""A recall that was never higher cannot be lost: the feature space may be unfit, or it is too early."""


def best(scores: Scores) -> float | None:
    """The best recall of any feature space: one blind space is no verdict."""
    return max(scores.values("recall").values(), default=None)


def measure(scores: Scores) -> Measured | None:
    """Recall now, over the best that an earlier evaluation found."""
    now = best(scores)
    if now is None or scores.best_recall < LEAST:
        return None
    return Measured(now / scores.best_recall, f"{now:.3f} now, {scores.best_recall:.3f} before")


DETECTOR = Detector(
    name="lost_recall",
    watches="recall, over the best recall at any evaluation before",
    measure=measure,
    bad="below",
    failure=Limit(0.1, "calibrated: a fifth of the 0.53 that 99 % of healthy checks stay above"),
    warning=Limit(0.3, "calibrated: beyond the 0.53 that 99 % of healthy checks stay above"),
    means="the samples cover next to nothing of what they covered before",
    hint="see the verdict on collapse; raise r1.gamma, and go back to the checkpoint with the best recall",
    graceful=False,
)
