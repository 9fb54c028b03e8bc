"""Discriminator overpowered: it is right about everything, and its gradient keeps growing."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Gallery

SURE = 0.9
"""Mean sign of the logit on real images, and minus that on generated ones, beyond which it is sure: 95 % are right."""


def measure(gallery: Gallery) -> Measured | None:
    """How far ‖∇D(real)‖² has grown over its median so far; 0 while the discriminator is not sure of both kinds."""
    judged = gallery.judgement
    if judged is None or not judged.earlier_gradients:
        return None
    sure = min(float(np.sign(judged.real_N).mean()), -float(np.sign(judged.fake_M).mean()))
    growth = judged.gradient / max(float(np.median(judged.earlier_gradients)), 1e-12)
    detail = f"signs {sure:.2f} at the least; gradient norm squared at real images {judged.gradient:.3g}"
    return Measured(growth if sure > SURE else 0.0, detail)


DETECTOR = Detector(
    name="discriminator_overpowered",
    watches="growth of the discriminator's gradient at real images, while it is right about 95 % of both kinds",
    measure=measure,
    bad="above",
    failure=Limit(10.0, "calibrated: twice what 99 % of healthy checks stay below"),
    warning=Limit(6.0, "calibrated: above 99 % of healthy checks"),
    means="the discriminator separates real from generated without effort, on cliffs that tell the generator nothing",
    hint="raise r1.gamma, lower the discriminator's learning rate, or give it more varied data",
    graceful=False,
)
