"""Discriminator overpowered after growth: while new layers fade in, it is right about everything and ever more so."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.sketching import Sketching


def measure(seen: Sketching) -> Measured | None:
    """Its accuracy over the last steps of the growth window; 0 while its margin does not grow."""
    accuracy, margin = seen.in_window("accuracy"), seen.in_window("margin")
    if accuracy is None or margin is None:
        return None
    half = len(margin) // 2
    before, after = float(margin[:half].mean()), float(margin[half:].mean())
    detail = f"at {seen.resolution}x{seen.resolution}, margin from {before:.3g} to {after:.3g}"
    return Measured(float(accuracy.mean()) if after > before else 0.0, detail, lambda: seen.shown_MCHW)


DETECTOR = Detector(
    name="growth_overpowered",
    watches="share judged rightly by the discriminator after a growth, while its margin grows",
    measure=measure,
    bad="above",
    failure=Limit(0.95, "the notes: it got too good too fast as the new layer faded in"),
    warning=Limit(0.9, "theory: nine of ten"),
    means="the discriminator runs away while a new resolution fades in, and tells the generator nothing",
    hint="are all layers trained (verdict `wiring`)? Does noise on real pictures alone give them away? A longer fade, "
    "a higher loss.r1.gamma, label noise",
    graceful=False,
)
