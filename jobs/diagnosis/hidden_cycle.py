"""Hidden cycle: the way back reads the input from noise that nobody sees, not from the picture."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import Translations


def measure(seen: Translations) -> Measured | None:
    """Error of the cycle with noise on the translation over that without it.

    Where the way back is better than the noise is strong, over what the noise itself amounts to: an honest way back
    passes noise on.
    """
    if seen.cycle_error is None or seen.noisy_cycle_error is None:
        return None
    ratio = seen.noisy_cycle_error / max(seen.cycle_error, seen.noise_error, 1e-12)
    return Measured(ratio, f"{seen.cycle_error:.4f} without noise, {seen.noisy_cycle_error:.4f} with it")


DETECTOR = Detector(
    name="hidden_cycle",
    watches="error of the cycle with noise of 2 % on the translation, over that without",
    measure=measure,
    bad="above",
    failure=Limit(3.0, "noise of 2 % is not seen by people"),
    warning=Limit(2.0, "noise of 2 % is not seen by people"),
    means="the translation hides its input in what nobody sees, so that the cycle is closed without an honest picture",
    hint="a lower loss.cycle, or noise on the translation before the way back",
)
