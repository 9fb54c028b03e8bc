"""Checkerboards: power at exactly the frequencies that upsampling by two leaves behind."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery
from jobs.diagnosis.spectra import mean_power, shown

LEAST_SIDE = 16


def grid_power(power_HW: F64) -> F64:
    """Power at periods of 2 and of 4 pixels over the power near by, along rows and columns: [4]."""
    return np.array([_peak(lines, period) for lines in (power_HW.mean(0), power_HW.mean(1)) for period in (2, 4)])


def _peak(power_F: F64, period: int) -> float:
    """One line of frequencies over its neighbours; Hann's window spreads a line over one frequency each side."""
    side = len(power_F)
    line, reach = side // period, max(side // 16, 3)
    below = power_F[line - reach - 1 : line - 1]
    above = power_F[line + 2 : line + 2 + reach] if period > 2 else below  # the spectrum mirrors itself at 1/2
    return float(power_F[line] / np.concatenate([below, above]).mean())


def measure(gallery: Gallery) -> Measured | None:
    """The largest of samples' peaks, over real images' at the same place where they have one too.

    A line that real images lack (pictures drawn on the grid of pixels do) makes no peak of a line that samples have.
    """
    if min(gallery.fake_MCHW.shape[2:]) < LEAST_SIDE:
        return None
    fake_HW, real_HW = mean_power(gallery.fake_MCHW), mean_power(gallery.real_NCHW)
    ratios = grid_power(fake_HW) / np.maximum(grid_power(real_HW), 1)
    worst = int(ratios.argmax())
    detail = f"a period of {(2, 4)[worst % 2]} pixels along {('rows', 'columns')[worst // 2]}"
    return Measured(float(ratios[worst]), detail, lambda: shown(fake_HW, real_HW))


DETECTOR = Detector(
    name="checkerboard",
    watches="power at a period of 2 or 4 pixels over the power near by, and over the same of real images",
    measure=measure,
    bad="above",
    failure=Limit(4.0, "calibrated: about four times the 1.1 that 99 % of healthy checks stay below"),
    warning=Limit(2.0, "calibrated: beyond the 1.1 that 99 % of healthy checks stay below"),
    means="the up-sampling leaves a regular grid in the pictures",
    hint="filter after up-sampling, and use kernels that the stride divides",
)
