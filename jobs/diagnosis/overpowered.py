"""Discriminator overpowered: it is right about everything, and its gradient keeps growing."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Gallery, Judgement

SURE = 0.9
"""Mean sign of the logit on real images, and minus that on generated ones, beyond which it is sure: 95 % are right."""
LEAST_EARLIER = 3
"""Checks before: the median of fewer says nothing of what is usual."""


def measure(gallery: Gallery) -> Measured | None:
    """How far ‖∇D(real)‖² has grown over its median so far; 0 while the discriminator is not sure of both kinds.

    Of several discriminators, the one where it is most.
    """
    ready = {name: x for name, x in gallery.judgements.items() if len(x.earlier_gradients) >= LEAST_EARLIER}
    found = [_growth(name, judged) for name, judged in ready.items()]
    return max(found, key=lambda measured: measured.value) if found else None


def _growth(name: str, judged: Judgement) -> Measured:
    sure = min(float(np.sign(judged.real_N).mean()), -float(np.sign(judged.fake_M).mean()))
    growth = judged.gradient / max(float(np.median(judged.earlier_gradients)), 1e-12)
    detail = f"{name}: signs {sure:.2f} at the least; gradient norm squared at real images {judged.gradient:.3g}"
    return Measured(growth if sure > SURE else 0.0, detail)


DETECTOR = Detector(
    name="discriminator_overpowered",
    watches="growth of the discriminator's gradient at real images, while it is right about 95 % of both kinds",
    measure=measure,
    bad="above",
    failure=Limit(7.0, "calibrated: twice the 3.6 that 99 % of healthy checks stay below"),
    warning=Limit(5.0, "calibrated: beyond the 3.6 that 99 % of healthy checks stay below"),
    means="the discriminator separates real from generated without effort, on cliffs that tell the generator nothing",
    hint="raise r1.gamma, lower the discriminator's learning rate, or give it more varied data",
    graceful=False,
)
