"""Generator unstable after growth: the same drawings get other continuations all the time."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.sketching import Sketching

EVERY_STEPS = 100
NAME = "sample_change"


def measure(seen: Sketching) -> Measured | None:
    """How far fixed samples move in 100 iterations since the last check, over the median before the growth."""
    before = seen.before_growth(NAME, EVERY_STEPS)
    windows = seen.steps.windows.get(NAME, ())
    if not before or not windows or seen.in_window("accuracy") is None:
        return None
    return Measured(windows[-1].median / before, f"at {seen.resolution}x{seen.resolution}", lambda: seen.shown_MCHW)


DETECTOR = Detector(
    name="growth_unstable",
    watches="change of fixed samples in 100 iterations after a growth, over its median before",
    measure=measure,
    bad="above",
    failure=Limit(3.0, "theory: three times"),
    warning=Limit(2.0, "theory: twice"),
    means="the generator jumps about since the new resolution began: its feedback is noise",
    hint="a longer fade, lower learning rates, or loss.r1.gamma",
    graceful=False,
)
