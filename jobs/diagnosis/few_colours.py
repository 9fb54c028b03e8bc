"""Few colours: the results are painted with two or three colours where real ones need more."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import F32, Translations, colour

LEVELS = 8
"""Of each channel: a cube of 512 colours."""
COVERED = 0.95


def colours_needed(image_NCHW: F32) -> float:
    """How many colours of the cube cover 95 % of a picture, median over pictures."""
    level_NCP = (
        (colour(image_NCHW) * LEVELS)
        .astype(np.int64)
        .clip(0, LEVELS - 1)
        .reshape(*image_NCHW.shape[:1], -1, image_NCHW[0, 0].size)
    )
    code_NP = (level_NCP * LEVELS ** np.arange(level_NCP.shape[1])[:, None]).sum(1)
    needed = []
    for code_P in code_NP:
        shares = np.sort(np.bincount(code_P))[::-1].cumsum() / len(code_P)
        needed.append(int(np.searchsorted(shares, COVERED)) + 1)
    return float(np.median(needed))


def measure(seen: Translations) -> Measured | None:
    """Colours of the results; None where real ones need no more than three either."""
    real = colours_needed(seen.real_NCHW if seen.truth_NCHW is None else seen.truth_NCHW)
    if real <= DETECTOR.failure.value:
        return None
    return Measured(
        colours_needed(seen.made_NCHW), f"real ones need {real:g}", lambda: (seen.made_NCHW[:16] * 255).astype(np.uint8)
    )


DETECTOR: Detector[Translations] = Detector(
    name="few_colours",
    watches="colours of a cube of 512 that cover 95 % of a picture",
    measure=measure,
    bad="below",
    failure=Limit(3.5, "three colours"),
    warning=None,
    means="the results have two or three colours: a classification of the pixels rather than a picture",
    hint="a discriminator that sees more than colour: deeper, with larger patches",
)
