"""Answer ignored: what w is told of the classifier's answer does not show in the picture."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.rebuilt import Rebuilt, pair


def measure(seen: Rebuilt) -> Measured | None:
    """Mean change of the probability of a class when w is told of it instead."""
    if seen.swapped_N is None:
        return None
    return Measured(float(seen.swapped_N.mean()), "", lambda: pair(seen))


DETECTOR = Detector(
    name="answer_ignored",
    watches="change of a class's probability when w is told of that class",
    measure=measure,
    bad="below",
    failure=Limit(0.02, "theory: next to nothing"),
    warning=Limit(0.1, "measured by others: a generator that used its condition stayed above"),
    means="the generator does not use what it is told of the classifier's answer; all of it comes from the encoder",
    hint="nothing is lost where reconstructions are read rightly; else raise kl.scale, or choose source: logits",
)
