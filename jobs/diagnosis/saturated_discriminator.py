"""Saturated discriminator: bounded logits stand at their bounds, where nothing moves them."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Steps

PREFIX = "saturated."


def measure(steps: Steps) -> Measured | None:
    """Mean share of its bounded logits beyond 0.99 of their bound, over the steps that are remembered."""
    shares = {name.removeprefix(PREFIX): float(values.mean()) for name, values in steps.recent.items()
              if name.startswith(PREFIX) and len(values)}  # fmt: skip
    if not shares:
        return None
    most = max(shares, key=lambda name: shares[name])
    return Measured(shares[most], f"the discriminator {most}")


DETECTOR = Detector(
    name="saturated_discriminator",
    watches="share of a discriminator's bounded logits that stand at their bound",
    measure=measure,
    bad="above",
    failure=Limit(0.9, "theory: its loss is then within 2 % of the least it can be, 0.313"),
    warning=Limit(0.5, "theory: half of them"),
    means="the hidden state of a GRU serves as logits; it cannot leave (-1, 1), and has arrived at the ends",
    hint="sequence.architecture: gru_head or conv_gru, whose logits have no bounds",
    graceful=False,
)
