"""Update size: a tensor that an optimizer owns, but hardly moves."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Snapshot


def measure(snapshot: Snapshot) -> Measured | None:
    """The tensor that the last step moved least, relative to its size."""
    if not snapshot.updates:
        return None
    least = min(snapshot.updates, key=lambda path: snapshot.updates[path].relative_update)
    moving = snapshot.updates[least]
    still = sum(other.relative_update < DETECTOR.failure.value for other in snapshot.updates.values())
    also = f"; {still} of {len(snapshot.updates)} tensors stand still" if still > 1 else ""
    return Measured(moving.relative_update, f"{least} (gradient {moving.gradient_rms:.3g}){also}")


DETECTOR: Detector[Snapshot] = Detector(
    name="update_size",
    watches="smallest relative change ‖Δθ‖ / ‖θ‖ that a step makes to a tensor",
    measure=measure,
    bad="below",
    failure=Limit(1e-6, "theory: at 1e-6 a step, 10,000 steps change a tensor by 1 %"),
    warning=Limit(3e-6, "theory: three times that"),
    means="a layer has stopped learning: no gradient reaches it, or its learning rate is next to nothing",
    hint="look at the named layer: what cuts it off from the loss? Else raise its learning rate",
    patience=2,
    graceful=False,
)
