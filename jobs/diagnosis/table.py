"""Every detector there is, by what it reads. A new one is a file, its name in the spec, and a line here."""

from typing import Any

from jobs.diagnosis import (
    answer_ignored,
    audio_ignored,
    bands,
    blank_images,
    blind,
    blurry_reconstructions,
    checkerboard,
    collapse,
    condition_ignored,
    dead_discriminator,
    dead_normaliser,
    doubled_features,
    droplets,
    drowned_term,
    encoder_collapse,
    feature_peaks,
    few_colours,
    flat_alpha,
    growth_overpowered,
    growth_starved,
    growth_unstable,
    hidden_cycle,
    holes,
    hue_collapse,
    identity_network,
    ink_ratio,
    learning_rate,
    loss_spikes,
    lost_detail,
    lost_modes,
    lost_recall,
    memorisation,
    memory_growth,
    misread_reconstructions,
    no_progress,
    non_finite,
    overpowered,
    peak_energy,
    reconstruction_spikes,
    repeated_half,
    repeated_images,
    saturated_discriminator,
    saturated_images,
    shift,
    smuggling,
    spectrum,
    spots,
    stale_frames,
    static_lips,
    sticking_holes,
    style_ignored,
    unbounded_critic,
    update_size,
    vanishing_gradient,
    w_clouds_apart,
)
from jobs.diagnosis.detector import Detector
from jobs.diagnosis.inputs import Gallery, Scores, Snapshot, Steps
from jobs.diagnosis.rebuilt import Rebuilt
from jobs.diagnosis.sketching import Sketching
from jobs.diagnosis.speaking import Speaking
from jobs.diagnosis.translations import Translations

OF_LOSSES: tuple[Detector[Steps], ...] = (non_finite.DETECTOR, loss_spikes.DETECTOR, vanishing_gradient.DETECTOR)
OF_STEPS: tuple[Detector[Steps], ...] = (*OF_LOSSES, reconstruction_spikes.DETECTOR)
OF_SNAPSHOT: tuple[Detector[Snapshot], ...] = (learning_rate.DETECTOR, update_size.DETECTOR, memory_growth.DETECTOR)
OF_GALLERY: tuple[Detector[Gallery], ...] = (
    overpowered.DETECTOR,
    blind.DETECTOR,
    no_progress.DETECTOR,
    collapse.DETECTOR,
    repeated_images.DETECTOR,
    style_ignored.DETECTOR,
    spectrum.DETECTOR,
    checkerboard.DETECTOR,
    droplets.DETECTOR,
    spots.DETECTOR,
    blank_images.DETECTOR,
    saturated_images.DETECTOR,
    hue_collapse.DETECTOR,
)
OF_SCORES: tuple[Detector[Scores], ...] = (lost_recall.DETECTOR, lost_modes.DETECTOR, memorisation.DETECTOR)
COMMON: tuple[Detector[Any], ...] = (*OF_LOSSES, *OF_SNAPSHOT, *OF_GALLERY, *OF_SCORES)
"""Watch every recipe; `python -m jobs.calibration` holds their limits against healthy runs and planted failures."""
OF_TRANSLATIONS: tuple[Detector[Translations], ...] = (
    feature_peaks.DETECTOR,
    peak_energy.DETECTOR,
    holes.DETECTOR,
    sticking_holes.DETECTOR,
    smuggling.DETECTOR,
    hidden_cycle.DETECTOR,
    identity_network.DETECTOR,
    lost_detail.DETECTOR,
    shift.DETECTOR,
    bands.DETECTOR,
    flat_alpha.DETECTOR,
    few_colours.DETECTOR,
)
OF_SKETCHING: tuple[Detector[Sketching], ...] = (
    growth_overpowered.DETECTOR,
    growth_starved.DETECTOR,
    growth_unstable.DETECTOR,
    condition_ignored.DETECTOR,
    ink_ratio.DETECTOR,
    unbounded_critic.DETECTOR,
    dead_normaliser.DETECTOR,
)
OF_REBUILT: tuple[Detector[Rebuilt], ...] = (
    encoder_collapse.DETECTOR,
    blurry_reconstructions.DETECTOR,
    misread_reconstructions.DETECTOR,
    w_clouds_apart.DETECTOR,
    answer_ignored.DETECTOR,
)
OF_SPEAKING_STEPS: tuple[Detector[Steps], ...] = (
    dead_discriminator.DETECTOR,
    saturated_discriminator.DETECTOR,
    drowned_term.DETECTOR,
    stale_frames.DETECTOR,
)
OF_SPEAKING: tuple[Detector[Speaking], ...] = (
    static_lips.DETECTOR,
    audio_ignored.DETECTOR,
    doubled_features.DETECTOR,
    repeated_half.DETECTOR,
)
ALL: tuple[Detector[Any], ...] = (
    *COMMON,
    reconstruction_spikes.DETECTOR,
    *OF_TRANSLATIONS,
    *OF_SKETCHING,
    *OF_REBUILT,
    *OF_SPEAKING_STEPS,
    *OF_SPEAKING,
)
