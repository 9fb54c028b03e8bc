"""Power spectra of pictures, for detectors of artefacts that no eye would find in time."""

import numpy as np

from jobs.diagnosis.detector import Images
from jobs.diagnosis.inputs import F64

ROUNDING_VARIANCE = 1 / 255**2 / 12
"""Of 8-bit pictures in [0, 1]: power below it is not in the picture."""


def mean_power(image_NCHW: Images, floor_variance: float = ROUNDING_VARIANCE) -> F64:
    """Mean power of the brightness at each frequency [H, W]: Hann's window, zero frequency first.

    White noise of `floor_variance` is added, so that what is weaker does not count.
    """
    grey_NHW = brightness(image_NCHW)
    height, width = grey_NHW.shape[1:]
    window_HW = _hann(height)[:, None] * _hann(width)
    spectrum_NHW = np.fft.fft2((grey_NHW - grey_NHW.mean((1, 2), keepdims=True)) * window_HW)
    floor = floor_variance * float((window_HW**2).sum())
    power_HW: F64 = (np.abs(spectrum_NHW) ** 2).mean(0) + floor
    return power_HW


def brightness(image_NCHW: Images) -> F64:
    """Mean of the colour channels in [0, 1]; transparency is left out."""
    colours = 3 if image_NCHW.shape[1] >= 3 else 1
    grey_NHW: F64 = image_NCHW[:, :colours].mean(1, dtype=np.float64) / 255
    return grey_NHW


def radius(height: int, width: int) -> F64:
    """Cycles per pixel of each frequency [H, W]; 0.5 is every other pixel."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))


def shown(*powers_HW: F64) -> Images:
    """Spectra as grey pictures on one logarithmic scale, zero frequency in the middle, [n, 1, H, W]."""
    logs = np.fft.fftshift(np.log(np.stack(powers_HW)), axes=(1, 2))
    low, high = float(logs.min()), float(logs.max())
    return ((logs - low) / max(high - low, 1e-9) * 255).astype(np.uint8)[:, None]


def _hann(side: int) -> F64:
    """Periodic: without a window the edges of a picture would be its sharpest feature."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side)
