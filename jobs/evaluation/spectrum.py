"""Power spectra: upsampling leaves its mark at high frequencies long before an eye sees it.

Durall et al. 2020 (Equation 4): the power of the 2-D Fourier transform, averaged over rings of equal frequency. No
learned weights, no resize: a resize would wipe out what is looked for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROUNDING_VARIANCE = 1 / 255**2 / 12
"""Of 8-bit images in [0, 1]: power below it is not in the picture."""


@dataclass(frozen=True)
class Gap:
    """How far two sets of spectra are apart."""

    decibel: float
    """Mean over rings of |10 log₁₀ (P_fake / P_real)|."""
    widest_decibel: float
    """The largest difference of a ring, with its sign: + where the samples have more power."""
    widest_frequency: float
    """Where it is, in cycles per pixel: 0.5 is every other pixel."""


def ring_powers(grey_NHW: Tensor) -> Tensor:
    """Mean power in each ring of frequencies, [N, R], of grey images in [0, 1]; ring r is r + 1 periods a side."""
    height, width = grey_NHW.shape[1:]
    window_HW = _window(height, grey_NHW.device)[:, None] * _window(width, grey_NHW.device)
    power_NHW = torch.fft.fft2((grey_NHW - grey_NHW.mean((1, 2), keepdim=True)) * window_HW).abs().square()
    ring_HW = _rings(height, width, grey_NHW.device)
    counts_R = torch.bincount(ring_HW.flatten())
    sums_NR = torch.zeros(len(grey_NHW), len(counts_R), dtype=power_NHW.dtype, device=grey_NHW.device)
    sums_NR.index_add_(1, ring_HW.flatten(), power_NHW.flatten(1))
    floor = ROUNDING_VARIANCE * window_HW.square().sum()
    return (sums_NR / counts_R + floor)[:, 1:]  # ring 0 is the mean brightness


def _window(side: int, device: torch.device) -> Tensor:
    """Hann's window: without it the edges of the picture would be its sharpest feature."""
    return torch.hann_window(side, periodic=True, device=device)


def _rings(height: int, width: int, device: torch.device) -> Tensor:
    """The ring of every frequency, [H, W]: cycles per pixel times the shorter side."""
    y_H, x_W = torch.fft.fftfreq(height, device=device), torch.fft.fftfreq(width, device=device)
    return ((y_H[:, None].square() + x_W.square()).sqrt() * min(height, width)).round().long()


def gap(real_NR: Tensor, fake_MR: Tensor, side: int) -> Gap:
    """The gap between the mean spectra of two sets of images whose shorter side is `side`."""
    difference_R = 10 * (fake_MR.double().mean(0).log10() - real_NR.double().mean(0).log10())
    widest = int(difference_R.abs().argmax())
    return Gap(difference_R.abs().mean().item(), difference_R[widest].item(), (widest + 1) / side)


def bootstrap_gap(real_NR: Tensor, fake_MR: Tensor, seed: int, resamples: int = 1000) -> tuple[float, float]:
    """95 % percentile interval of the gap, images of both sets drawn anew."""
    rng = np.random.RandomState(seed)
    means = []
    for powers_NR in (real_NR.double(), fake_MR.double()):
        images = len(powers_NR)
        counts = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
        means.append(torch.from_numpy(counts).to(powers_NR) @ powers_NR / images)
    gaps = (10 * (means[1].log10() - means[0].log10())).abs().mean(1).cpu().numpy()
    low, high = np.percentile(gaps, [2.5, 97.5])
    return float(low), float(high)
