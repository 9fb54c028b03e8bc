"""Drowned term: one part of the generator's loss is so strong that another one is not heard."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Steps

PREFIX = "share."


def measure(steps: Steps) -> Measured | None:
    """The least share that a term has in the generator's gradient norm, since the last check."""
    shares = {name.removeprefix(PREFIX): windows[-1].mean for name, windows in steps.windows.items()
              if name.startswith(PREFIX) and windows and windows[-1].steps}  # fmt: skip
    if len(shares) < 2:
        return None
    least = min(shares, key=lambda name: shares[name])
    listed = ", ".join(f"{name} {share:.2%}" for name, share in sorted(shares.items(), key=lambda pair: -pair[1]))
    return Measured(shares[least], listed)


DETECTOR = Detector(
    name="drowned_term",
    watches="least share of a term in the norm of the generator's gradient",
    measure=measure,
    bad="below",
    failure=Limit(0.001, "theory: a thousandth of the gradient changes nothing that can be seen"),
    warning=Limit(0.01, "theory: a hundredth"),
    means="a term of the generator's loss does not count beside the others",
    hint="bring the weights nearer to one another; the statistics `share` tell what each has",
    graceful=False,
)
