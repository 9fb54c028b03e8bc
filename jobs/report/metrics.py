"""Which number opens a report, what it is compared with, and how far it can be trusted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.report.model import MetricRow
from jobs.report.words import count, figure, plural

Better = Literal["lower", "higher", "unknown"]
Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a metric is called, which way is better, and what it says in one sentence."""

    title: str
    better: Better
    sentence: str


MEANINGS = {
    "fid": Meaning("FID", "lower", "Fréchet distance between Inception features of samples and of real images."),
    "fd": Meaning(
        "Fréchet distance", "lower", "How far the samples' features are from the real images', as two Gaussians."
    ),
    "kid": Meaning("KID", "lower", "Kernel distance between features; unbiased, so it may fall just below 0."),
    "precision": Meaning("Precision", "higher", "Share of samples that lie among the real images: quality."),
    "recall": Meaning("Recall", "higher", "Share of real images that lie among the samples: variety."),
    "density": Meaning("Density", "higher", "How deep the samples lie among real images; may exceed 1."),
    "coverage": Meaning("Coverage", "higher", "Share of real images with a sample near by: the alarm for lost modes."),
    "memorisation": Meaning(
        "Memorisation",
        "unknown",
        "Share of samples nearer to a training image than that is to any other; new real images reach about a half.",
    ),
    "vendi": Meaning("Vendi score", "unknown", "Effective number of different samples; compare it with the data's."),
    "classifier_score": Meaning("Classifier score", "higher", "Inception Score's formula with another classifier."),
    "spectrum_gap": Meaning("Spectrum gap", "lower", "Difference of power spectra in dB: what upsampling leaves."),
    "lpips_diversity": Meaning("LPIPS diversity", "unknown", "Mean LPIPS between samples; compare it with the data's."),
    "ppl_z": Meaning("Path length in z", "lower", "Perceptual change of the picture for a small step in z."),
    "ppl_w": Meaning("Path length in w", "lower", "Perceptual change of the picture for a small step in w."),
    "modes_covered": Meaning("Modes covered", "higher", "Modes of the generated set that at least one sample shows."),
    "mode_precision": Meaning("Mode precision", "higher", "Share of samples that show any mode of the data."),
    "mode_kl": Meaning("KL(samples ‖ data)", "lower", "Over the modes, in nats."),
    "mode_reverse_kl": Meaning("KL(data ‖ samples)", "lower", "Over the modes, in nats; a lost mode costs much."),
    "psnr": Meaning("PSNR", "higher", "Signal over error to the known result, in dB."),
    "ssim": Meaning("SSIM", "higher", "Structural similarity to the known result; 1 is equal."),
    "l1": Meaning("L1", "lower", "Mean absolute difference to the known result, of 0 to 1."),
    "alpha_error": Meaning("Alpha error", "lower", "Mean absolute difference of transparency, of 0 to 1."),
    "detail": Meaning("Detail", "higher", "Correlation of edges with those that should be there; 1 is all of them."),
    "holes": Meaning("Holes", "lower", "Small, compact places a picture that are far off."),
    "hole_area": Meaning("Hole area", "lower", "Share of all pixels that lie in holes."),
    "feature_peak": Meaning(
        "Feature peak", "lower", "Strongest pixel of what a normaliser reads, in deviations from the median."
    ),
    "classifier_agreement": Meaning(
        "Classifier agreement", "higher", "Share of reconstructions of which the classifier says the same."
    ),
    "classifier_kl": Meaning("Classifier KL", "lower", "KL of its answers on image and reconstruction, in nats."),
    "classifier_accuracy": Meaning(
        "The classifier's accuracy", "higher", "Share of images, not seen by it, that it is right about."
    ),
    "classifier_class_accuracy": Meaning("Its accuracy, mean over classes", "higher", "Guessing gets 1 / classes."),
    "calibration_error": Meaning(
        "Its calibration error", "lower", "How far its confidence is from its accuracy; 15 bins (Guo et al. 2017)."
    ),
    "sharpness": Meaning(
        "Sharpness of reconstructions", "higher", "Energy of the Laplacian, over that of their images: 1 is as sharp."
    ),
    "w_distance": Meaning("Distance of w", "lower", "Between the encoder's and the mapping's w."),
    "flip_rate": Meaning(
        "Flip rate", "higher", "Share of images that change class when the coordinates found are moved."
    ),
    "cause_change": Meaning(
        "Causes changed", "higher", "Images on which a coordinate found changes a cause: mean share."
    ),
    "other_change": Meaning("Other attributes changed", "lower", "The same of attributes that cause nothing."),
    "cause_precision": Meaning("Precision of causes", "higher", "Coordinates that change a cause more than all else."),
    "cause_recall": Meaning("Recall of causes", "higher", "Causes that some coordinate changes on a fifth of images."),
}
MEANINGS |= {  # of talking faces
    "mouth_correlation": Meaning(
        "Mouth correlation", "higher", "Correlation of the mouth's opening with the true one, frame by frame."
    ),
    "mouth_delay": Meaning("Mouth delay", "unknown", "Frames by which the mouth comes late; 0 is best."),
    "audio_swap": Meaning(
        "Audio swap", "unknown", "Change of the mouth under another sound, over that between two moments; 1 is as real."
    ),
    "motion_ratio": Meaning("Motion ratio", "unknown", "Motion of the mouth over that of real films; 1 is as real."),
    "lse_d": Meaning("LSE-D", "lower", "Distance of lips to sound at the best shift, in a SyncNet."),
    "lse_c": Meaning("LSE-C", "higher", "How much the best shift stands out from the others, in a SyncNet."),
    "sync_offset": Meaning("Sync offset", "unknown", "The best shift, in frames; 0 is in time."),
    "cpbd": Meaning("CPBD", "higher", "Share of edges on which no blur is noticed; compare it with real frames."),
    "identity_distance": Meaning(
        "Identity distance", "lower", "Distance of frames to their own still, over that to strangers' stills."
    ),
    "blinks_per_second": Meaning("Blinks", "unknown", "Closings of the eyes a second; compare it with real frames."),
    "landmark_distance": Meaning("Landmark distance", "lower", "Of corners and lips to the true places, in pixels."),
}
PREFERRED_METRICS = ("fid", "fd", "kid", "precision", "recall", "density", "coverage", "modes_covered")
PREFERRED_FEATURES = ("inception_v3", "efficientnet_lite0", "vgg16", "classifier", "random_conv", "pixels")
UNLEARNED_FEATURES = ("pixels", "random_conv")
FEW_SAMPLES = 10_000
UNFIT_BELOW = 0.8
BIASED = ("fid", "fd")
"""Metrics that fall as samples get more."""
TRAINED, UNTRAINED = "", "untrained"
REAL_VS_REAL = ("real against other real", "sanity", "real frames")
"""Comparisons that show the best value a generator could reach."""
LABELS = (TRAINED, UNTRAINED, *REAL_VS_REAL, "real against half of its modes", "real against noise")
"""From what is asked to what is known: the order of the table."""
MULTIPLE_SHOWN_FROM = 1.1


def meaning(metric: str) -> Meaning:
    """What is known of `metric`; its own name where nothing is."""
    return MEANINGS.get(metric) or Meaning(metric.replace("_", " "), "unknown", "")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric in one feature space: now, before training, and between real images."""

    now: MetricRow | None
    untrained: MetricRow | None
    sanity: MetricRow | None
    best: MetricRow | None

    @property
    def any(self) -> MetricRow:
        """Any of the rows, for the names that all share."""
        return next(row for row in (self.now, self.untrained, self.sanity) if row)

    def gain(self) -> str:
        """How the value stands to the untrained generator's, in words; empty where one of the two is missing."""
        if not (self.now and self.untrained) or self.now.value is None or self.untrained.value is None:
            return ""
        if _overlap(self.now, self.untrained):
            return "not clearly different from untrained"
        return _gain(self.now.value, self.untrained.value, meaning(self.now.metric).better)

    def closed(self) -> float | None:
        """The share of the way from the untrained generator to real images that is done, 0 to 1."""
        values = [row.value if row else None for row in (self.now, self.untrained, self.sanity)]
        now, untrained, sanity = values
        if now is None or untrained is None or sanity is None or untrained == sanity:
            return None
        return min(max((untrained - now) / (untrained - sanity), 0.0), 1.0)


def compared(row: MetricRow) -> str:
    """What a row compares with the data; under the general label `sanity` its note says it."""
    return row.note if row.label == "sanity" and row.note else row.label


def compare(rows: Sequence[MetricRow]) -> dict[Key, Comparison]:
    """Every metric and feature space of `rows`, the most telling first."""
    keys = sorted({(row.metric, row.features) for row in rows}, key=_rank)
    return {key: _comparison([row for row in rows if (row.metric, row.features) == key]) for key in keys}


def headline(rows: Sequence[MetricRow], chosen: Key | None = None) -> Comparison | None:
    """The comparison that opens the report: the chosen one, else the most telling that has a value."""
    comparisons = compare(rows)
    if chosen in comparisons:
        return comparisons[chosen]
    measured = [comparison for comparison in comparisons.values() if comparison.now]
    return next(iter(measured or comparisons.values()), None)


def trust(rows: Sequence[MetricRow]) -> tuple[str, ...]:
    """How far the numbers can be trusted, sentence by sentence, from the numbers themselves."""
    comparisons = compare(rows)
    trained = [comparison.now for comparison in comparisons.values() if comparison.now]
    sentences = [*_about_samples(trained), *_about_features(trained)]
    sentences += [sentence for comparison in comparisons.values() if (sentence := _about_sanity(comparison))]
    if trained:
        sentences.append(
            "One seed: another seed of the same spec would give other numbers. Compare variants over several seeds."
        )
    return tuple(sentences)


def _comparison(rows: Sequence[MetricRow]) -> Comparison:
    trained = [row for row in rows if row.label == TRAINED]
    now = _latest(trained)
    return Comparison(
        now=now,
        untrained=_latest(row for row in rows if row.label == UNTRAINED),
        sanity=_closest_count([row for row in rows if compared(row) in REAL_VS_REAL], now),
        best=_best([row for row in trained if row.value is not None], meaning(rows[0].metric).better),
    )


def _closest_count(rows: Sequence[MetricRow], now: MetricRow | None) -> MetricRow | None:
    """The row on about as many samples as `now`: metrics compare at equal counts only."""
    wanted = now.samples or 0 if now else 0
    return min(rows, key=lambda row: abs((row.samples or 0) - wanted), default=None)


def _latest(rows: Iterable[MetricRow]) -> MetricRow | None:
    return max(rows, key=lambda row: row.images or 0, default=None)


def _best(rows: Sequence[MetricRow], better: Better) -> MetricRow | None:
    if better == "unknown":
        return None
    sign = 1 if better == "higher" else -1
    return max(rows, key=lambda row: sign * (row.value or 0.0), default=None)


def _rank(key: Key) -> tuple[int, int, str, str]:
    metric, features = key
    return (_place(metric, PREFERRED_METRICS), _place(features or "", PREFERRED_FEATURES), metric, features or "")


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _overlap(one: MetricRow, other: MetricRow) -> bool:
    """Whether the intervals of two values overlap; without intervals nothing is known of it."""
    ends = (one.interval_low, one.interval_high, other.interval_low, other.interval_high)
    if None in ends:
        return False
    low, high, other_low, other_high = (end or 0.0 for end in ends)
    return low <= other_high and other_low <= high


def _gain(now: float, untrained: float, better: Better) -> str:
    if better == "unknown":
        return f"untrained: {figure(untrained)}"
    if now == untrained:
        return "the same as the untrained generator"
    if (now < untrained) != (better == "lower"):
        return "worse than the untrained generator"
    if better == "higher":
        return f"up from {figure(untrained)} untrained"
    if now <= 0:
        return f"down from {figure(untrained)} untrained"
    times = untrained / now
    return (
        f"{figure(times, 2)}× lower than untrained" if times >= MULTIPLE_SHOWN_FROM else "hardly lower than untrained"
    )


def _about_samples(rows: Sequence[MetricRow]) -> list[str]:
    fewest = min((row.samples for row in rows if row.samples and row.metric in BIASED), default=None)
    if fewest is None or fewest >= FEW_SAMPLES:
        return []
    return [
        f"The Fréchet distance grows as samples get fewer; these are from {count(fewest)}. Compare it only with values "
        "from as many samples. KID has no such bias."
    ]


def _about_features(rows: Sequence[MetricRow]) -> list[str]:
    features = {row.features for row in rows if row.features}
    if not features:
        return []
    sentences = []
    if not any(space.startswith("inception") for space in features) and any(row.metric == "fd" for row in rows):
        sentences.append("This is not FID: the features are not Inception's, so published FID values do not compare.")
    if features <= set(UNLEARNED_FEATURES):
        sentences.append("No learned features were used: pixels and random filters see colour and layout, not content.")
    return sentences


def _about_sanity(comparison: Comparison) -> str | None:
    floor, now = comparison.sanity, comparison.now
    if floor is None or floor.value is None:
        return None
    name = f"{meaning(floor.metric).title} in {floor.features}"
    if floor.metric in ("recall", "precision", "coverage") and floor.value < UNFIT_BELOW:
        return f"{name} is unfit here: even real images against other real images reach only {figure(floor.value)}."
    if floor.metric in BIASED and now and now.samples and floor.samples and floor.samples < now.samples:
        return (
            f"{name} of real against real images was measured on {count(floor.samples)} images, the samples on "
            f"{count(now.samples)}: with as many, it would be lower."
        )
    if _below(now, floor):
        return f"{name} is below that of real against real images: look for copies of the training images."
    return None


def _below(now: MetricRow | None, floor: MetricRow) -> bool:
    """Whether a distance is lower than between real images by more than its interval."""
    if now is None or now.value is None or floor.value is None or meaning(now.metric).better != "lower":
        return False
    return (now.value if now.interval_high is None else now.interval_high) < floor.value


def measured_on(row: MetricRow) -> str:
    """2,000 samples against 5,000 real images, resize ..., seed ..."""
    parts = []
    if row.samples is not None:
        against = f" against {count(row.real_samples)} real images" if row.real_samples is not None else ""
        parts.append(f"{plural(row.samples, 'sample')}{against}")
    if row.resize:
        parts.append(f"resize {row.resize}")
    if row.seed is not None:
        parts.append(f"seed {row.seed}")
    return ", ".join(parts)


def interval(row: MetricRow, to: str = " to ") -> str:
    """38.1 to 44.9; empty where there is none."""
    if row.interval_low is None or row.interval_high is None:
        return ""
    return f"{figure(row.interval_low)}{to}{figure(row.interval_high)}"


def companions(rows: Sequence[MetricRow], opening: Comparison | None) -> list[Comparison]:
    """What stands beside the headline: the other metrics in its feature space."""
    if opening is None:
        return []
    beside = compare([row for row in rows if row.features == opening.any.features])
    return [other for other in beside.values() if other.now and other.any.metric != opening.any.metric]


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured, on how many samples, and its value in every feature space."""

    label: str
    samples: int
    rows: tuple[MetricRow | None, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One metric: its feature spaces, and a line for the trained generator, the untrained one, each known answer."""

    meaning: Meaning
    spaces: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    """How it was measured, where the rows say it."""


def table(rows: Sequence[MetricRow]) -> tuple[Group, ...]:
    """The latest value of every metric, feature space and label; the most telling metric first."""
    names = sorted({row.metric for row in rows}, key=lambda metric: (_place(metric, PREFERRED_METRICS), metric))
    return tuple(_group([row for row in rows if row.metric == name]) for name in names)


def spaces_of(features: Iterable[str | None]) -> tuple[str, ...]:
    """Feature spaces, each once, the most telling first."""
    return tuple(
        sorted({space or "" for space in features}, key=lambda space: (_place(space, PREFERRED_FEATURES), space))
    )


def _group(rows: Sequence[MetricRow]) -> Group:
    spaces = spaces_of(row.features for row in rows)
    latest = {(_line(row), row.features or ""): row for row in sorted(rows, key=lambda row: row.images or 0)}
    lines = sorted({line for line, _ in latest}, key=lambda line: (_place(line[0], LABELS), line[0], -line[1]))
    made = tuple(Line(*line, tuple(latest.get((line, space)) for space in spaces)) for line in lines)
    return Group(meaning(rows[0].metric), spaces, made, _notes(made, spaces))


def _notes(lines: Sequence[Line], spaces: Sequence[str]) -> tuple[str, ...]:
    """The notes of the trained generator's values: once where all agree, else by feature space."""
    rows = [row for line in lines if line.label == TRAINED for row in line.rows]
    notes = {space: row.note for space, row in zip(spaces, rows, strict=False) if row and row.note}
    if len(set(notes.values())) == 1 and len(notes) == len(spaces):
        return (next(iter(notes.values())),)
    return tuple(f"{space}: {note}" for space, note in notes.items())


def _line(row: MetricRow) -> tuple[str, int]:
    return compared(row), row.samples or 0
