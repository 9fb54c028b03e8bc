"""Style ignored: pictures change with the noise, not with the latent."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery


def style_share(pixels_SKP: F64) -> float | None:
    """ρ = V_w / (V_w + V_n) of pictures of S styles under K noises; None where nothing varies.

    V_w: variance over styles with the noise held, mean over noises and pixels; V_n the other way round.
    """
    by_style = float(pixels_SKP.var(axis=0, ddof=1).mean())
    by_noise = float(pixels_SKP.var(axis=1, ddof=1).mean())
    total = by_style + by_noise
    return by_style / total if total > 0 else None


def measure(gallery: Gallery) -> Measured | None:
    """The style share of the averaged generator."""
    if gallery.style_share is None:
        return None
    return Measured(gallery.style_share, picture=lambda: gallery.fake_MCHW[:64])


DETECTOR = Detector(
    name="style_ignored",
    watches="share of the variance of pixels that comes from the style, not from the noise",
    measure=measure,
    bad="below",
    failure=Limit(0.2, "calibrated: a third of the 0.57 that 99 % of healthy checks stay above"),
    warning=Limit(0.4, "calibrated: beyond the 0.57 that 99 % of healthy checks stay above"),
    means="the generator listens to its noise inputs and hardly to the latent; recall may look decent all the same",
    hint="raise r1.gamma, or train with generator.noise: off",
)
