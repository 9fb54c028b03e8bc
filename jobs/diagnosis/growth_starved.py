"""Generator starved after growth: its gradient has shrunk to a trifle of what it was before."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.sketching import Sketching


def measure(seen: Sketching) -> Measured | None:
    """Its gradient norm in the growth window, over the median before that growth."""
    now, before = seen.in_window("gradient.generator"), seen.before_growth("gradient.generator")
    if now is None or not before:
        return None
    return Measured(float(now.mean()) / before, f"at {seen.resolution}x{seen.resolution}, {before:.3g} before")


DETECTOR = Detector(
    name="growth_starved",
    watches="gradient norm of the generator after a growth, over its median before",
    measure=measure,
    bad="below",
    failure=Limit(0.1, "theory: a tenth"),
    warning=Limit(0.2, "theory: a fifth"),
    means="since the new resolution began, the discriminator hardly tells the generator what to change",
    hint="instance noise or label noise with clock: growth; loss.r1.gamma; a longer fade",
    graceful=False,
)
