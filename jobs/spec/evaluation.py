"""What is measured, in which feature spaces, on how many images.

A number without its feature space and its sample counts says nothing, so both stand here and beside every result.
Names are honest: the Fréchet distance is `fd`, and a result is called `fid` only where the features are those of the
Inception network of the published score.
"""

from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from jobs.spec.base import Section

FeatureSpace = Literal["pixels", "random_conv", "efficientnet_lite0", "classifier", "inception_v3", "vgg16", "dinov2"]
"""Where images are compared. `pixels` and `random_conv` need no learned weights; `classifier` is trained on the labels
of the job's own data; the others saw ImageNet. Only `efficientnet_lite0` comes with gankiln itself."""

MetricName = Literal[
    "fd",
    "fid",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "vendi",
    "memorisation",
    "classifier_score",
    "spectrum_gap",
    "lpips_diversity",
    "ppl_z",
    "ppl_w",
]
ReconstructionMetric = Literal["lpips", "ssim", "ms_ssim", "psnr", "l1"]
"""Of systems whose pictures have a target."""

LpipsNetwork = Literal["alex", "vgg", "squeeze"]
PathSpace = Literal["z", "w"]

FEATURE_SPACES: tuple[FeatureSpace, ...] = get_args(FeatureSpace)
DEFAULT_METRICS: tuple[MetricName, ...] = (
    "fd",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "memorisation",
    "spectrum_gap",
)


class Evaluation(Section):
    """How a generator is measured against its data.

    The defaults are for a laptop's processor, where `efficientnet_lite0` reads 60 to 120 images/s on two cores: 1,000
    generated and 1,000 real images take half a minute, the sanity rows as long again, once. Published scores use
    50,000 generated images; the Fréchet distance falls with the count, so compare it only at equal counts.
    """

    samples: int = Field(
        1000,
        ge=2,
        description="Generated images per evaluation. 1,000 suits a laptop; 10,000 a GPU; 50,000 published scores.",
    )
    real_samples: int | None = Field(
        None,
        ge=2,
        description="Images of the data to compare with, drawn once without replacement. "
        "None means as many as `samples`; never more than the data holds.",
    )
    features: tuple[FeatureSpace, ...] = Field(
        ("pixels", "random_conv", "efficientnet_lite0"),
        min_length=1,
        description="Feature spaces; every metric is measured in each, so that an unfit space shows itself.",
    )
    metrics: tuple[MetricName, ...] = Field(
        DEFAULT_METRICS,
        min_length=1,
        description="fd: Fréchet distance (0 is best); its rows in inception_v3 are called fid, and fid asks for those "
        "alone. kid: kernel distance, unbiased (0 is best). precision, density: do samples look like data? recall, "
        "coverage: is all of the data there? vendi: effective number of different samples. memorisation: share of "
        "samples nearer to an image of the data than that is to any other (compare with other real images). "
        "classifier_score: Inception Score's formula with the classifier of the feature space. spectrum_gap: "
        "difference of power spectra in dB. lpips_diversity: mean LPIPS between samples. ppl_z, ppl_w: perceptual path "
        "length.",
    )
    lpips: LpipsNetwork = Field(
        "alex", description="Network of LPIPS in lpips_diversity; perceptual path length always uses vgg, as published."
    )
    nearest_neighbours: int | None = Field(
        None,
        ge=1,
        le=100,
        description="k of the nearest-neighbour balls. None means as published: 3 for precision and recall "
        "(Kynkäänniemi et al. 2019), 5 for density and coverage (Naeem et al. 2020).",
    )
    kid_subsets: int = Field(
        100, ge=1, le=10_000, description="Random subsets whose kernel distances are averaged into kid."
    )
    kid_subset_images: int = Field(
        1000,
        ge=2,
        description="Images per subset; halved as needed so that a subset is at most half of the images there are.",
    )
    intervals: bool = Field(
        True, description="A 95 % interval beside every value. Costs ten more Fréchet distances per feature space."
    )
    sanity: bool = Field(
        True,
        description="Also measure the data against other data, against noise and against half of its own modes: "
        "a metric that cannot tell these apart says nothing about a generator.",
    )
    untrained: bool = Field(True, description="Also measure the untrained generator, shown beside the trained one.")
    every_images: int | None = Field(
        None, ge=1, description="Real images shown between evaluations during training; None means only at the end."
    )
    batch: int = Field(64, ge=1, description="Images per batch while sampling and extracting features.")
    seed: int = Field(
        0,
        ge=0,
        lt=2**32,
        description="Seed of latents, subsets and bootstraps: two evaluations differ by weights only.",
    )

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        for field, names in (("features", self.features), ("metrics", self.metrics)):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{field}: {', '.join(repeated)} is listed more than once")
        return self

    @model_validator(mode="after")
    def _names_are_honest(self) -> Self:
        if "fid" in self.metrics and "inception_v3" not in self.features:
            raise ValueError(
                "metrics: fid is the Fréchet distance of Inception's features: add inception_v3 to features, "
                "or ask for fd, which is measured in every feature space"
            )
        if "classifier_score" in self.metrics and not {"classifier", "efficientnet_lite0"} & set(self.features):
            raise ValueError(
                "metrics: classifier_score needs a feature space that classifies: add classifier or efficientnet_lite0 "
                "to features"
            )
        return self

    def neighbours(self, metric: MetricName) -> int:
        """k of the nearest-neighbour balls of `metric`, as resolved from `nearest_neighbours`."""
        if self.nearest_neighbours is not None:
            return self.nearest_neighbours
        return 3 if metric in ("precision", "recall") else 5
