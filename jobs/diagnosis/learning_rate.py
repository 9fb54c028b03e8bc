"""A learning rate that has decayed to nothing while most of the run is still ahead."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Snapshot


def measure(snapshot: Snapshot) -> Measured | None:
    """The smallest rate over its start, while less than half of the run is done."""
    if snapshot.images > snapshot.planned_images / 2 or not snapshot.learning_rates:
        return None
    ratios = {name: now / start for name, (start, now) in snapshot.learning_rates.items() if start > 0}
    if not ratios:
        return None
    least = min(ratios, key=lambda name: ratios[name])
    start, now = snapshot.learning_rates[least]
    return Measured(ratios[least], f"optimizer {least}: {start:.3g} at the start, {now:.3g} now")


DETECTOR = Detector(
    name="learning_rate",
    watches="learning rate over its start, within the first half of the run",
    measure=measure,
    bad="below",
    failure=Limit(
        0.05, "theory: at a twentieth of the rate, what is left of the run moves less than the first tenth did"
    ),
    warning=Limit(0.1, "theory: a tenth of the rate for more than half of the run"),
    means="the schedule has taken the learning rate away; a decay *of* 2 % was perhaps written as a factor *of* 0.02",
    hint="write the decay as what is left (0.98), or decay later",
    graceful=False,
)
