"""How a mouth moves, measured on pictures: films [T, C, H, W] of one face, uint8, and a box around its mouth in pixels.

An open mouth is darker than the skin around it, in drawings and in most photographs; that is all these measures know.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Film = NDArray[np.uint8]
F64 = NDArray[np.float64]
LUMA = (0.299, 0.587, 0.114)


class Box(NamedTuple):
    """Columns left..right and rows top..bottom, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of(cls, shares: tuple[float, float, float, float], height: int, width: int) -> "Box":
        """From shares of the frame; at least two pixels wide and high."""
        left, top = round(shares[0] * width), round(shares[1] * height)
        return cls(left, top, max(round(shares[2] * width), left + 2), max(round(shares[3] * height), top + 2))

    def cut(self, film_TCHW: Film) -> F64:
        """Brightness within the box [T, h, w], in [0, 255]."""
        return luma(film_TCHW)[:, self.top : self.bottom, self.left : self.right]


def luma(film_TCHW: Film) -> F64:
    """Brightness [T, H, W], in [0, 255] (BT.601)."""
    if film_TCHW.shape[1] == 1:
        return film_TCHW[:, 0].astype(np.float64)
    return np.einsum("tchw,c->thw", film_TCHW[:, :3], np.array(LUMA))


def openings(film_TCHW: Film, mouth: Box) -> F64:
    """How open the mouth is in every frame: mean darkness of the box, as a share of the brightness of skin.

    Skin is the brightness that a quarter of the box exceeds, over the whole film.
    """
    inside_Thw = mouth.cut(film_TCHW)
    skin = max(float(np.percentile(inside_Thw, 75)), 1.0)
    return (1 - inside_Thw / skin).clip(min=0).mean((1, 2))


def correlation(one_T: F64, other_T: F64) -> float:
    """Pearson's; 0 where either does not change."""
    one, other = one_T - one_T.mean(), other_T - other_T.mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum() / size) if size > 1e-9 else 0.0


def delay_frames(made_T: F64, true_T: F64, most: int) -> int:
    """By how many frames `made` comes after `true`: where they correlate most, -most to most."""
    length = len(made_T)
    shifts = range(-most, most + 1)
    found = [
        correlation(made_T[max(shift, 0) : length + min(shift, 0)], true_T[max(-shift, 0) : length + min(-shift, 0)])
        for shift in shifts
    ]
    return list(shifts)[int(np.argmax(found))]


def motion(film_TCHW: Film, mouth: Box) -> float:
    """Mean |f(t + 1) - f(t)| within the box."""
    return float(np.abs(np.diff(mouth.cut(film_TCHW), axis=0)).mean())


def swap_change(film_TCHW: Film, swapped_TCHW: Film, real_TCHW: Film, mouth: Box) -> float:
    """Mean change of the box when the same face is given another sound, over that between two moments of the real film.

    1 where the mouth follows the sound as much as real ones do, 0 where it does not listen.
    """
    inside_Thw = mouth.cut(real_TCHW)
    length = len(inside_Thw)
    between = np.mean([np.abs(inside_Thw[gap:] - inside_Thw[:-gap]).mean() for gap in range(length // 4, length // 2)])
    changed = float(np.abs(mouth.cut(film_TCHW) - mouth.cut(swapped_TCHW)).mean())
    return changed / max(float(between), 1e-9)


def mouth_landmarks(film_TCHW: Film, mouth: Box) -> F64:
    """Left corner, right corner, upper and lower lip [T, 4, 2] (column, row) from the moments of what is dark.

    An ellipse of even darkness with half axes a and b has variances a²/4 and b²/4.
    """
    inside_Thw = mouth.cut(film_TCHW)
    skin, darkest = np.percentile(inside_Thw, 75), inside_Thw.min()
    weight_Thw = (darkest + (skin - darkest) / 3 - inside_Thw).clip(min=0) + 1e-9  # lips are darker than skin, too
    total_T = weight_Thw.sum((1, 2))
    column_w, row_h = np.arange(mouth.left, mouth.right), np.arange(mouth.top, mouth.bottom)
    x_T = (weight_Thw.sum(1) * column_w).sum(1) / total_T
    y_T = (weight_Thw.sum(2) * row_h).sum(1) / total_T
    wide_T = (weight_Thw.sum(1) * (column_w - x_T[:, None]) ** 2).sum(1) / total_T
    high_T = (weight_Thw.sum(2) * (row_h - y_T[:, None]) ** 2).sum(1) / total_T
    a_T, b_T = 2 * np.sqrt(wide_T), 2 * np.sqrt((high_T - 1 / 12).clip(min=0))  # 1/12: a pixel has a height itself
    return np.stack(
        [np.stack(p, axis=1) for p in ((x_T - a_T, y_T), (x_T + a_T, y_T), (x_T, y_T - b_T), (x_T, y_T + b_T))], axis=1
    )


def blinks(film_TCHW: Film, eyes: tuple[Box, ...]) -> int:
    """How often eyes close: contrast within their boxes falls below half of its usual."""
    contrast_T = np.mean([box.cut(film_TCHW).std((1, 2)) for box in eyes], axis=0)
    closed_T = contrast_T < 0.6 * np.median(contrast_T)
    return int((np.diff(closed_T.astype(np.int8)) == 1).sum() + closed_T[0])
