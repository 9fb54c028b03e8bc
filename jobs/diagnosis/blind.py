"""Discriminator blind: it cannot tell generated pictures from real ones, though they differ."""

import numpy as np
from scipy.stats import rankdata

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery


def area_under_curve(real_N: F64, fake_M: F64) -> float:
    """Chance that a real image has the higher logit than a generated one (Mann-Whitney); ties count half."""
    ranks = rankdata(np.concatenate([real_N, fake_M]))
    wins = ranks[: len(real_N)].sum() - len(real_N) * (len(real_N) + 1) / 2
    return float(wins / (len(real_N) * len(fake_M)))


def measure(gallery: Gallery) -> Measured | None:
    """How far the area under the curve is from chance."""
    if gallery.judgement is None:
        return None
    area = area_under_curve(gallery.judgement.real_N, gallery.judgement.fake_M)
    return Measured(abs(area - 0.5), f"it ranks a real image above a generated one in {area:.0%} of pairs")


DETECTOR = Detector(
    name="discriminator_blind",
    watches="how far the discriminator's ranking of real and generated images is from chance",
    measure=measure,
    bad="below",
    failure=Limit(0.05, "theory: with 256 images of each, chance itself scatters by 0.026"),
    warning=Limit(0.1, "theory: four times that scatter"),
    means="the discriminator judges by chance, so the generator learns nothing, or has nothing left to learn",
    hint="less label or instance noise, a lower r1.gamma, a higher learning rate or more feature maps for it",
    patience=2,
)
