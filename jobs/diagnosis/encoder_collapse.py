"""Encoder collapse: nearly one picture whatever image is encoded, while pictures from latents may stay diverse."""

from jobs.diagnosis.collapse import mean_distance
from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.rebuilt import Rebuilt, pair


def measure(seen: Rebuilt) -> Measured | None:
    """Mean distance between reconstructions over that between their images."""
    real = mean_distance(seen.real_ND)
    if real == 0:
        return None
    drawn = "" if seen.drawn_MD is None else f"pictures from latents: {mean_distance(seen.drawn_MD) / real:.2f}"
    return Measured(mean_distance(seen.made_ND) / real, drawn, lambda: pair(seen))


DETECTOR = Detector(
    name="encoder_collapse",
    watches="mean distance between reconstructions, over that between their images",
    measure=measure,
    bad="below",
    failure=Limit(0.3, "measured by others: an encoder that had collapsed stayed below"),
    warning=Limit(0.5, "half of the variety of the data is gone"),
    means="the encoder tells the generator little of the image: reconstructions are alike",
    hint="raise reconstruction.scale, lower encoder.lr_multiplier, or lower adversarial.weight",
)
