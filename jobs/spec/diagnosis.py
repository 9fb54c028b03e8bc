"""What is watched for while a run trains, and what a failure leads to.

    diagnosis:
      on_failure: log
      detectors:
        collapse: {threshold: 0.2, action: stop}
        droplets: {enabled: false}

A detector gives a verdict (healthy, warning, failure) at every sample grid and checkpoint. By default verdicts are only
said; `stop` ends the run, `rollback` goes back to the last healthy checkpoint and goes on with a stated change.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from jobs.spec.base import Section

Action = Literal["log", "stop", "rollback"]
"""What a failure leads to."""

DetectorName = Literal[
    "non_finite",
    "loss_spikes",
    "discriminator_overpowered",
    "discriminator_blind",
    "vanishing_gradient",
    "learning_rate",
    "update_size",
    "memory_growth",
    "no_progress",
    "collapse",
    "repeated_images",
    "style_ignored",
    "spectrum",
    "checkerboard",
    "droplets",
    "spots",
    "blank_images",
    "saturated_images",
    "hue_collapse",
    "lost_recall",
    "lost_modes",
    "memorisation",
    "feature_peaks",
    "peak_energy",
    "holes",
    "sticking_holes",
    "smuggling",
    "hidden_cycle",
    "identity_network",
    "lost_detail",
    "shift",
    "bands",
    "flat_alpha",
    "few_colours",
    "growth_overpowered",
    "growth_starved",
    "growth_unstable",
    "condition_ignored",
    "ink_ratio",
    "unbounded_critic",
    "dead_normaliser",
    "reconstruction_spikes",
    "encoder_collapse",
    "blurry_reconstructions",
    "misread_reconstructions",
    "w_clouds_apart",
    "answer_ignored",
    "dead_discriminator",
    "saturated_discriminator",
    "drowned_term",
    "stale_frames",
    "static_lips",
    "audio_ignored",
    "doubled_features",
    "repeated_half",
]
DETECTORS: tuple[DetectorName, ...] = get_args(DetectorName)


class Override(Section):
    """What one detector does otherwise than by default."""

    enabled: bool = True
    threshold: float | None = Field(None, description="Where a failure begins; default: the detector's own, calibrated")
    warning: float | None = Field(None, description="Where a warning begins; default: the detector's own")
    action: Action | None = Field(
        None,
        description="What its failure leads to; default: diagnosis.on_failure. A rollback for memory_growth or "
        "learning_rate is only said: going back does not undo them",
    )


class Rollback(Section):
    """The change with which a run goes on from its last healthy checkpoint; a second rollback applies it once more."""

    learning_rate_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Every learning rate is multiplied by this"
    )
    r1_gamma_factor: Annotated[float, Field(ge=1)] = Field(2.0, description="r1.gamma is multiplied by this")
    limit: int = Field(3, ge=1, le=20, description="After so many rollbacks the next failure stops the run")


class Diagnosis(Section):
    """Named failure detectors, the wiring check, and what a failure leads to."""

    enabled: bool = Field(True, description="false: no detector runs; losses that are not finite still stop the run")
    wiring: bool = Field(
        True,
        description="Before the first step and after the tenth: is every learnable tensor reached by a loss in exactly "
        "one optimizer, does each move, is no gradient thrown away? A failure stops the run and names the module",
    )
    on_failure: Action = Field("log", description="What a failure leads to, where its detector does not say otherwise")
    detectors: dict[DetectorName, Override] = Field(
        {}, description="Overrides by detector; what is not written keeps its calibrated default"
    )
    rollback: Rollback = Rollback()
    samples: int = Field(
        128, ge=16, le=4096, description="Generated, and as many real, images looked at; fewer where images are large"
    )
    grace_images: int | None = Field(
        None,
        ge=0,
        description="Pictures are not judged before; default: 30 % of the run, 5,000 to 200,000 images",
    )

    def override(self, name: DetectorName) -> Override:
        """What the spec says of the detector `name`."""
        return self.detectors.get(name, Override())

    @property
    def rolls_back(self) -> bool:
        """Whether any failure leads to a rollback."""
        return any(self.action(name) == "rollback" for name in DETECTORS)

    def action(self, name: DetectorName) -> Action:
        """What a failure of the detector `name` leads to."""
        return self.override(name).action or self.on_failure
