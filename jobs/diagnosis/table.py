"""Every detector there is, by what it reads. A new one is a file, its name in the spec, and a line here."""

from typing import Any

from jobs.diagnosis import (
    blank_images,
    blind,
    checkerboard,
    collapse,
    droplets,
    hue_collapse,
    learning_rate,
    loss_spikes,
    lost_modes,
    lost_recall,
    memorisation,
    memory_growth,
    no_progress,
    non_finite,
    overpowered,
    repeated_images,
    saturated_images,
    spectrum,
    spots,
    style_ignored,
    update_size,
    vanishing_gradient,
)
from jobs.diagnosis.detector import Detector
from jobs.diagnosis.inputs import Gallery, Scores, Snapshot, Steps

OF_STEPS: tuple[Detector[Steps], ...] = (non_finite.DETECTOR, loss_spikes.DETECTOR, vanishing_gradient.DETECTOR)
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
ALL: tuple[Detector[Any], ...] = (*OF_STEPS, *OF_SNAPSHOT, *OF_GALLERY, *OF_SCORES)
