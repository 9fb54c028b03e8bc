"""Dead normaliser: an instance norm divides a map without contrast by its deviation."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.sketching import Sketching


def measure(seen: Sketching) -> Measured:
    """The flattest map that any instance norm of the averaged generator is given."""
    return Measured(seen.least_deviation, f"a map of {seen.layer}")


DETECTOR = Detector(
    name="dead_normaliser",
    watches="smallest deviation of a map over its pixels, mean over pictures, before an instance norm",
    measure=measure,
    bad="below",
    failure=Limit(1e-6, "theory: without an epsilon this is 0 / 0, with one the map is only its bias"),
    warning=Limit(1e-5, "theory: ten times that"),
    means="a map without contrast is normalised: it carries nothing, or not a number",
    hint="generator.norm_epsilon: 1e-8, generator.constant: random",
    graceful=False,
)
