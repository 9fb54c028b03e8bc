"""Smuggling: cutting down a few pixels of one map changes the result far away from them."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import Translations, sheet


def measure(seen: Translations) -> Measured | None:
    """The change elsewhere, as a share of the results' spread."""
    layer = seen.worst_layer
    if seen.smuggled is None or layer is None:
        return None
    return Measured(seen.smuggled, f"what {layer.label} normalises was cut down", lambda: sheet(seen))


DETECTOR = Detector(
    name="smuggling",
    watches="change of the result away from the strongest thousandth of a map's pixels when these are cut down to its "
    "99th percentile, over the result's spread",
    measure=measure,
    bad="above",
    failure=Limit(0.1, "a local change has local effects"),
    warning=Limit(0.05, "half of that"),
    means="a few strong pixels carry information for the whole picture past the normalisation",
    hint="norm: demodulated for the generator",
)
