"""Lost modes: of a generated set whose modes can be counted, samples show fewer than they did."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Scores


def covered(scores: Scores) -> float | None:
    """Modes that samples show, where they can be counted."""
    return next(iter(scores.values("modes_covered").values()), None)


def measure(scores: Scores) -> Measured | None:
    """Modes covered now, over the most that an earlier evaluation found."""
    now = covered(scores)
    if now is None or scores.most_modes == 0:
        return None
    return Measured(now / scores.most_modes, f"{now:.0f} modes now, {scores.most_modes:.0f} before")


DETECTOR = Detector(
    name="lost_modes",
    watches="modes covered, over the most covered at any evaluation before",
    measure=measure,
    bad="below",
    failure=Limit(0.5, "theory: half of what it could make is gone"),
    warning=Limit(0.8, "theory: a steady generator loses none, for every mode is drawn many times"),
    means="the generator has dropped kinds of pictures that it could make before",
    hint="raise r1.gamma; go back to the checkpoint with the most modes",
    graceful=False,
)
