"""Ink ratio: blank or full pages."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.sketching import Sketching

LEAST, MOST = 0.3, 3.0


def measure(seen: Sketching) -> Measured:
    """How far the ink of generated parts over that of real ones is off: 1 at 0.3 and at 3."""
    ratio = max(seen.ink_ratio, 1e-6)
    detail = f"{ratio:.3g} times the ink of real parts"
    return Measured(max(ratio / MOST, LEAST / ratio), detail, lambda: seen.shown_MCHW)


DETECTOR = Detector(
    name="ink_ratio",
    watches="ink of generated parts against real ones, as a share of what is allowed (0.3 to 3 times)",
    measure=measure,
    bad="above",
    failure=Limit(1.0, "theory: less than a third, or three times as much"),
    warning=Limit(0.7, "theory: less than 0.43, or twice as much"),
    means="the generator draws far too little or far too much",
    hint="loss.ink ties the amount of ink to that of real parts (DoodlerGAN: 0.01)",
)
