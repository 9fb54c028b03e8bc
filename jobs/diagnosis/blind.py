"""Discriminator blind: it tells generated pictures from real ones no better than a guess, or worse."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery


def area_under_curve(real_N: F64, fake_M: F64) -> float:
    """Chance that a real image has the higher logit than a generated one (Mann-Whitney); ties count half."""
    from scipy.stats import rankdata  # takes half a second, and few runs come here before their first step

    ranks = rankdata(np.concatenate([real_N, fake_M]))
    wins = ranks[: len(real_N)].sum() - len(real_N) * (len(real_N) + 1) / 2
    return float(wins / (len(real_N) * len(fake_M)))


def advantage(loss: float, guessing: float, real_N: F64, fake_M: F64) -> float:
    """How much lower `loss` is than that of mere guessing, as a share of it.

    Guessing costs a Wasserstein critic nothing: of such a one, how much more often than by chance it ranks a real image
    above a generated one, 0 to 1.
    """
    return 1 - loss / guessing if guessing > 0 else 2 * area_under_curve(real_N, fake_M) - 1


def measure(gallery: Gallery) -> Measured | None:
    """How much lower its loss was since the last check than that of one that says "perhaps" to everything.

    Of several discriminators, the one that tells least.
    """
    if not gallery.judgements:
        return None
    name, judged = min(gallery.judgements.items(), key=lambda item: item[1].advantage)
    area = area_under_curve(judged.real_N, judged.fake_M)
    return Measured(judged.advantage, f"{name} ranks a real image above a generated one in {area:.0%} of pairs")


DETECTOR = Detector(
    name="discriminator_blind",
    watches="how much lower the discriminator's loss is than that of mere guessing, as a share of it",
    measure=measure,
    bad="below",
    failure=Limit(0.01, "theory: 0 is guessing"),
    warning=Limit(0.03, "calibrated: beyond the 0.058 that 99 % of healthy checks stay above"),
    means="the discriminator judges by chance, so the generator learns nothing, or has nothing left to learn",
    hint="less label or instance noise, a lower r1.gamma, a higher learning rate or more feature maps for it",
    patience=2,
)
