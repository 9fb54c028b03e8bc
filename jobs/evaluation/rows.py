"""One measured number, with everything that a reader needs to know whether to believe it."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric in one feature space at one moment: one row of the report's table."""

    metric: str
    features: str
    """The feature space, named by what it is."""
    value: float
    images: int
    """Real images shown to the discriminator when this was measured (the clock of the run)."""
    samples: int
    """Generated images measured."""
    real_samples: int | None = None
    """Images of the data compared with; None where no data is compared with."""
    interval_low: float | None = None
    interval_high: float | None = None
    interval_kind: str | None = None
    """What the interval spans and how it was found."""
    resize: str | None = None
    """Filter and size by which images came to the feature space."""
    seed: int | None = None
    note: str | None = None
    label: str = ""
    """What was measured, if not the trained generator: "untrained", or one of the sanity comparisons."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for report.json; what is not known is left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}
