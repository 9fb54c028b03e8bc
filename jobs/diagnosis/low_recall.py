"""Low recall: hardly any image of the data lies among the samples."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Scores


def measure(scores: Scores) -> Measured | None:
    """The best recall of any feature space: one blind space is no verdict."""
    recalls = scores.values("recall")
    if not recalls:
        return None
    best = max(recalls, key=lambda space: recalls[space])
    return Measured(recalls[best], f"in features {best}, the best of {len(recalls)}")


DETECTOR = Detector(
    name="low_recall",
    watches="share of the data that lies among the samples, in the feature space where it is largest",
    measure=measure,
    bad="below",
    failure=Limit(0.01, "placeholder"),
    warning=Limit(0.05, "placeholder"),
    means="the samples cover next to nothing of the data",
    hint="see the verdict on collapse; if it is healthy, train longer",
    patience=2,
)
