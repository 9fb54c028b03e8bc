"""Discriminator blind: it tells generated pictures from real ones no better than a guess, or worse."""

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
    """How much lower its loss was since the last check than that of one that says "perhaps" to everything."""
    judged = gallery.judgement
    if judged is None:
        return None
    area = area_under_curve(judged.real_N, judged.fake_M)
    return Measured(judged.advantage, f"it ranks a real image above a generated one in {area:.0%} of pairs")


DETECTOR = Detector(
    name="discriminator_blind",
    watches="how much lower the discriminator's loss is than that of mere guessing, as a share of it",
    measure=measure,
    bad="below",
    failure=Limit(0.01, "theory: 0 is guessing; calibrated: a fifth of what 99 % of healthy checks stay above"),
    warning=Limit(0.03, "calibrated: below 99 % of healthy checks"),
    means="the discriminator judges by chance, so the generator learns nothing, or has nothing left to learn",
    hint="less label or instance noise, a lower r1.gamma, a higher learning rate or more feature maps for it",
    patience=2,
)
