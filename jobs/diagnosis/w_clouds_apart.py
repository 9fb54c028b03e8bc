"""Clouds of w apart: the encoder speaks of places that the mapping never goes to."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.rebuilt import Rebuilt, separability


def measure(seen: Rebuilt) -> Measured | None:
    """How well w from the encoder can be told from w of latents."""
    if seen.mapped_MD is None:
        return None
    return Measured(separability(seen.encoded_ND, seen.mapped_MD))


DETECTOR = Detector(
    name="w_clouds_apart",
    watches="area under the ROC of a linear classifier that tells the encoder's w from the mapping's",
    measure=measure,
    bad="above",
    failure=Limit(0.995, "theory: hardly one w in a hundred could come from the other network"),
    warning=Limit(0.9, "asked by others: do the two distributions clash?"),
    means="encoder and mapping use different parts of w: the generator learns two tasks, and latents say little of it",
    hint="path_length.weight, a lower encoder.lr_multiplier, or alternating: encoder_only where latents are not needed",
)
