"""Holes: small, compact places of the results that are far off."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import Translations, count_blobs, sheet


def measure(seen: Translations) -> Measured:
    """Holes a picture."""
    count_N, area = count_blobs(seen.hole_NHW), float(seen.hole_NHW.mean())
    against = "the known translation" if seen.truth_NCHW is not None else "its input, darker or less opaque"
    detail = f"against {against}; {(count_N > 0).mean():.0%} of the pictures have one; {area:.2%} of all pixels"
    return Measured(float(count_N.mean()), detail, lambda: sheet(seen))


DETECTOR = Detector(
    name="holes",
    watches="holes a picture: 9 pixels to 2 % of the picture, more than 4 deviations off",
    measure=measure,
    bad="above",
    failure=Limit(1.0, "a hole in every picture"),
    warning=Limit(0.5, "a hole in every second picture"),
    means="the results have holes",
    hint="see feature_peaks: which layer begins them? norm: demodulated, or more weight on the cycle",
)
