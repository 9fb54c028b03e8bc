"""Lost detail: edges of the results are not where edges of the truth (or of the input) are."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import F64, Translations, edges


def detail(seen: Translations) -> F64:
    """Correlation of the lengths of gradients with those of the truth, or else of the input, [N]; flat pictures: 0."""
    made, like = (edges(image).reshape(len(seen.made_NCHW), -1) for image in (seen.made_NCHW, seen.likeness_NCHW))
    made, like = (x - x.mean(1, keepdims=True) for x in (made, like))
    lengths = np.sqrt((made**2).sum(1) * (like**2).sum(1))
    correlation_N: F64 = (made * like).sum(1) / np.maximum(lengths, 1e-12)
    return correlation_N


def measure(seen: Translations) -> Measured:
    """The median over pictures."""
    against = "the known translation" if seen.truth_NCHW is not None else "the input"
    return Measured(float(np.median(detail(seen))), f"against {against}")


DETECTOR = Detector(
    name="lost_detail",
    watches="correlation of edges with those that should be there",
    measure=measure,
    bad="below",
    failure=Limit(0.3, "measured: less than a translation that only recolours keeps"),
    warning=Limit(0.6, "half of the edges' variance is elsewhere"),
    means="fine detail is lost on the way",
    hint="fewer down-samplings, a larger inner size, kernels of 3 in resize-convolutions",
)
