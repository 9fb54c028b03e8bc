"""No progress: samples are no nearer to the data than those of the untrained generator were."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery


def distance(fake_MD: F64, real_ND: F64) -> float:
    """Fréchet distance of two Gaussians without correlations: Σ (μ - μ')² + (σ - σ')²."""
    means = fake_MD.mean(0) - real_ND.mean(0)
    deviations = fake_MD.std(0) - real_ND.std(0)
    return float((means**2 + deviations**2).sum())


def measure(gallery: Gallery) -> Measured | None:
    """The distance now over the untrained generator's."""
    if not gallery.untrained_distance:
        return None
    ratio = distance(gallery.fake_MD, gallery.real_ND) / gallery.untrained_distance
    return Measured(ratio, f"in features {gallery.space}", lambda: gallery.fake_MCHW[:64])


DETECTOR = Detector(
    name="no_progress",
    watches="distance of samples to the data, over that of the untrained generator",
    measure=measure,
    bad="above",
    failure=Limit(0.9, "theory: at 1 training has not helped at all"),
    warning=Limit(0.7, "calibrated: beyond the 0.31 that 99 % of healthy checks stay below"),
    means="after a third of the run the samples are as far from the data as noise was",
    hint="look at the other verdicts first; else check data and learning rate: one of the two networks does not learn",
    patience=2,
)
