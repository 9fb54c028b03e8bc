"""Spectrum: samples have much more fine detail than the data: noise, wobbles, ringing."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery
from jobs.diagnosis.spectra import mean_power, radius, shown

VISIBLE_VARIANCE = (8 / 255) ** 2
"""Of noise that can just be seen: eight grey levels. What is weaker is no artefact."""


def top_octave_gap(fake_HW: F64, real_HW: F64) -> float:
    """ln(P_fake / P_real), mean over the frequencies of the top octave, 0.25 to 0.5 cycles per pixel."""
    frequency_HW = radius(*fake_HW.shape)
    octave = (frequency_HW > 0.25) & (frequency_HW <= 0.5)
    return float(np.log(fake_HW / real_HW)[octave].mean())


def measure(gallery: Gallery) -> Measured:
    """The gap between mean spectra of samples and of real images; negative where samples are blurred."""
    fake_HW, real_HW = (mean_power(images, VISIBLE_VARIANCE) for images in (gallery.fake_MCHW, gallery.real_NCHW))
    return Measured(
        top_octave_gap(fake_HW, real_HW),
        "evidence: spectra of samples, of real images",
        lambda: shown(fake_HW, real_HW),
    )


DETECTOR = Detector(
    name="spectrum",
    watches="power of fine detail (top octave) in samples over that in real images, natural logarithm",
    measure=measure,
    bad="above",
    failure=Limit(1.25, "calibrated: 1.5 times the power of the 0.83 that 99 % of healthy checks stay below"),
    warning=Limit(1.0, "calibrated: beyond the 0.83 that 99 % of healthy checks stay below"),
    means="samples carry noise, wobbles or ringing that the data does not have",
    hint="raise r1.gamma, or use fewer style vectors; noise inputs that grow unchecked do it too",
)
