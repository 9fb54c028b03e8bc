"""Unbounded critic: nothing holds its logits."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.sketching import Sketching

MOST, GROWTH, LEAST = 1e3, 10.0, 50.0
"""Logits beyond `MOST` are unbounded; so are those that grow tenfold in a thousand steps, once beyond `LEAST`."""


def measure(seen: Sketching) -> Measured | None:
    """Its mean logit on real pictures, over what is allowed."""
    values = np.abs(seen.steps.recent.get("logit.real", np.empty(0)))
    if not len(values):
        return None
    size, early = float(values[-20:].mean()), float(values[:20].mean())
    growth = size / max(early, 1.0) if size > LEAST else 0.0
    return Measured(max(size / MOST, growth / GROWTH), f"|logit| {size:.3g}, {early:.3g} {len(values)} steps before")


DETECTOR = Detector(
    name="unbounded_critic",
    watches="mean logit of real pictures, as a share of what is allowed (1,000, or tenfold in 1,000 steps)",
    measure=measure,
    bad="above",
    failure=Limit(1.0, "theory: a Lipschitz critic of pictures in [0, 1] stays far below 1,000"),
    warning=Limit(0.5, "theory: half of that"),
    means="the critic grows without limit: a Wasserstein loss without a penalty is no distance",
    hint="loss.gradient_penalty: {weight: 10}, and loss.drift: 0.001",
    graceful=False,
)
