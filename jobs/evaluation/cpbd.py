"""CPBD (Narvekar and Karam 2011): the share of edges on which nobody would notice a blur. Higher is sharper.

An edge of width w looks blurred with probability 1 - exp(-(w / w_jnb)^3.6), where w_jnb, the blur that can just be
noticed, is 5 pixels at low contrast (up to 50 of 255) and 3 above. Blocks of 64 pixels, or the picture where it is
smaller, count where at least 0.2 % of them are edges.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import sobel

F64 = NDArray[np.float64]

BLOCK, LEAST_EDGES = 64, 0.002
BETA, JUST_NOTICED = 3.6, 0.63
LOW_CONTRAST, WIDTH_LOW, WIDTH_HIGH = 50, 5, 3


def cpbd(luma_HW: F64) -> float | None:
    """Of a picture in [0, 255]; None where it has no edges."""
    edges_HW, widths_HW = _edges(luma_HW), _widths(luma_HW)
    height, width = luma_HW.shape
    side = min(BLOCK, height, width)
    seen = noticed = 0
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            block = np.s_[top : top + side, left : left + side]
            edges = edges_HW[block]
            if edges.sum() < LEAST_EDGES * side**2:
                continue
            contrast = luma_HW[block].max() - luma_HW[block].min()
            just_noticed = WIDTH_LOW if contrast <= LOW_CONTRAST else WIDTH_HIGH
            blurred = 1 - np.exp(-((widths_HW[block][edges] / just_noticed) ** BETA))
            seen, noticed = seen + int(edges.sum()), noticed + int((blurred > JUST_NOTICED).sum())
    return 1 - noticed / seen if seen else None


def _edges(luma_HW: F64) -> NDArray[np.bool_]:
    """Where the gradient along rows is strong (twice its root mean square) and strongest among its neighbours."""
    strength_HW = np.abs(sobel(luma_HW, axis=1, mode="nearest"))
    padded = np.pad(strength_HW, ((0, 0), (1, 1)))
    peak_HW = (strength_HW >= padded[:, :-2]) & (strength_HW > padded[:, 2:])
    return peak_HW & (strength_HW > 2 * np.sqrt((strength_HW**2).mean())) & (strength_HW > 0)


def _widths(luma_HW: F64) -> F64:
    """Of an edge at each pixel: how far brightness goes on rising, or falling, in its row (Marziliano et al. 2004)."""
    step_HW = np.sign(np.diff(luma_HW, axis=1))  # between a pixel and the next
    before_HW, after_HW = (np.zeros(luma_HW.shape) for _ in range(2))
    for column in range(1, luma_HW.shape[1]):
        step = step_HW[:, column - 1]
        same = step == (step_HW[:, column - 2] if column > 1 else 0)
        before_HW[:, column] = np.where(step == 0, 0, np.where(same, before_HW[:, column - 1], 0) + 1)
    for column in range(luma_HW.shape[1] - 2, -1, -1):
        step = step_HW[:, column]
        last = column + 1 == luma_HW.shape[1] - 1
        same = step == (0 if last else step_HW[:, column + 1])
        after_HW[:, column] = np.where(step == 0, 0, np.where(same, after_HW[:, column + 1], 0) + 1)
    rises = np.pad(step_HW, ((0, 0), (0, 1))) == np.pad(step_HW, ((0, 0), (1, 0)))
    return np.where(rises, before_HW + after_HW, np.maximum(before_HW, after_HW))
