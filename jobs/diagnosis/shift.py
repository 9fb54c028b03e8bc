"""Shift: the results lie beside the place where they should be."""

import numpy as np
from scipy.ndimage import gaussian_filter

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.lost_detail import detail
from jobs.diagnosis.translations import F64, Translations, edges

LEAST_DETAIL = 0.2
"""Below this correlation of edges there is no place to be compared."""
MOST_PIXELS = 4


def offset(made_NHW: F64, like_NHW: F64) -> tuple[float, float]:
    """(down, right): where the mean cross-correlation of both has its peak, between pixels by a parabola."""
    spectra = [
        np.fft.rfft2(gaussian_filter(x - x.mean((1, 2), keepdims=True), (0, 1, 1))) for x in (made_NHW, like_NHW)
    ]
    correlation_HW = np.fft.irfft2(spectra[0] * spectra[1].conj(), s=made_NHW.shape[1:]).mean(0)
    near = np.roll(correlation_HW, (MOST_PIXELS, MOST_PIXELS), axis=(0, 1))[
        : 2 * MOST_PIXELS + 1, : 2 * MOST_PIXELS + 1
    ]
    inner = near[1:-1, 1:-1]
    row, column = (int(place) + 1 for place in np.unravel_index(int(inner.argmax()), inner.shape))
    down = row - MOST_PIXELS + _vertex(near[row - 1 : row + 2, column])
    return down, column - MOST_PIXELS + _vertex(near[row, column - 1 : column + 2])


def _vertex(three: F64) -> float:
    """Where a parabola through three values at -1, 0, 1 has its top."""
    below, middle, above = (float(value) for value in three)
    bend = below - 2 * middle + above
    return 0.0 if bend == 0 else float(np.clip(0.5 * (below - above) / bend, -0.5, 0.5))


def measure(seen: Translations) -> Measured | None:
    """The larger of both offsets."""
    if float(np.median(detail(seen))) < LEAST_DETAIL:
        return None
    down, right = offset(edges(seen.made_NCHW), edges(seen.likeness_NCHW))
    return Measured(max(abs(down), abs(right)), f"{down:+.2f} pixels down, {right:+.2f} to the right")


DETECTOR = Detector(
    name="shift",
    watches="offset of the results' edges from where they should be, in pixels",
    measure=measure,
    bad="above",
    failure=Limit(0.4, "an even kernel that is not centred moves a picture by half a pixel"),
    warning=Limit(0.3, "the input's own edges, lit from one side, lie 0.2 pixels beside those of the truth"),
    means="every result is moved: some kernel is not centred",
    hint="alignment: centred, or odd kernels",
)
