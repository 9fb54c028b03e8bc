"""Is a part where it belongs? Scores of the parts of ToyBirds against their exactly known geometry, and of any drawing
against its own ink. Rasters are ink in [0, 1], [N, R, R]; lengths are shares of the width of the picture.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jobs.data.strokes import CANVAS, PADDING
from jobs.data.toybirds import BEAK, BODY, EYE, HEAD, LEGS, Truth

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Score = Callable[[F64, Truth, float], F64]
"""(ink, truth, half the width of a line on the canvas) -> one number a picture; NaN where there is no ink."""

PAPER = 0.15
"""Less ink than this is paper: what a generator leaves where it draws nothing."""
WALL = 0.2
"""Ink that a flood does not pass."""
LEAST_INK = 0.25
"""Of the median ink of real parts: with less, nothing was drawn."""
INSIDE = 0.75
_SIDE = CANVAS + 2 * PADDING


def drawn(ink_NRR: F64, real_NRR: F64) -> F64:
    """Ink without traces on the paper; nothing at all where there is too little to be the part."""
    clean_NRR = np.where(ink_NRR < PAPER, 0.0, ink_NRR)
    least = LEAST_INK * float(np.median(np.where(real_NRR < PAPER, 0.0, real_NRR).sum((1, 2))))
    return clean_NRR * (clean_NRR.sum((1, 2)) >= least)[:, None, None]


def eye_inside_head(ink_NRR: F64, truth: Truth, half_line: float) -> F64:
    """1 where at least 3/4 of the eye's ink lies in the head (its line included)."""
    pixel = _SIDE / ink_NRR.shape[1]
    distance_NRR = _distance(ink_NRR.shape[1], truth.head_N3[:, :2])
    inside_NRR = distance_NRR <= (truth.head_N3[:, 2] + half_line + pixel / 2)[:, None, None]
    return _failed_where_blank((ink_NRR * inside_NRR).sum((1, 2)) >= INSIDE * ink_NRR.sum((1, 2)), ink_NRR)


def head_around_eye(ink_NRR: F64, truth: Truth, _half_line: float) -> F64:
    """1 where a flood from the edge of the picture does not reach the eye past the head's ink."""
    side = ink_NRR.shape[1]
    at_N2 = ((truth.eye_N2 + PADDING) / _SIDE * side).astype(int).clip(0, side - 1)
    enclosed = [_enclosed(ink_RR >= WALL, int(x), int(y)) for ink_RR, (x, y) in zip(ink_NRR, at_N2, strict=True)]
    return _failed_where_blank(np.array(enclosed), ink_NRR)


def _enclosed(wall_RR: Bools, x: int, y: int) -> bool:
    outside_RR = np.pad(~wall_RR, 1, constant_values=True)
    region_RR, _ = ndimage.label(outside_RR)
    return bool(region_RR[y + 1, x + 1] != region_RR[0, 0])


def beak_forward(ink_NRR: F64, truth: Truth, _half_line: float) -> F64:
    """1 where the beak's ink lies, on average, on that side of the head to which the bird looks."""
    x_R = _centres(ink_NRR.shape[1])
    mean_N = (ink_NRR * x_R).sum((1, 2)) / np.maximum(ink_NRR.sum((1, 2)), 1e-9)
    return _failed_where_blank((mean_N - truth.head_N3[:, 0]) * truth.facing_N > 0, ink_NRR)


def distance_to_body(ink_NRR: F64, truth: Truth, half_line: float) -> F64:
    """From the nearest ink to the outline of the body, beyond the width of lines, as a share of the picture's width."""
    side = ink_NRR.shape[1]
    x, y, a, b, tilt = (truth.body_N5[:, column, None, None] for column in range(5))
    centre_R = _centres(side)
    right, down = centre_R[None, None, :] - x, centre_R[None, :, None] - y
    along, across = right * np.cos(tilt) + down * np.sin(tilt), down * np.cos(tilt) - right * np.sin(tilt)
    radius = np.sqrt((along / a) ** 2 + (across / b) ** 2)
    # Along the ray from the middle: |p| · |1 - 1/radius|; exact on the axes, an upper bound elsewhere.
    gap_NRR = np.hypot(right, down) * np.abs(1 - 1 / np.maximum(radius, 1e-9))
    return _nearest(gap_NRR - 2 * half_line - _SIDE / side / 2, ink_NRR) / _SIDE


def distance_to_drawing(ink_NRR: F64, given_NRR: F64) -> F64:
    """From the nearest ink to the nearest ink of the drawing so far, as a share of the width; NaN without either."""
    side = ink_NRR.shape[1]
    gaps = [
        ndimage.distance_transform_edt(given_RR < WALL) - 1
        if (given_RR >= WALL).any()
        else np.full((side, side), np.nan)
        for given_RR in given_NRR
    ]
    return _nearest(np.stack(gaps), ink_NRR) / side


def strokes(ink_NRR: F64) -> NDArray[np.int64]:
    """Connected pieces of ink in each picture, corners touching."""
    return np.array([ndimage.label(ink_RR >= WALL, np.ones((3, 3)))[1] for ink_RR in ink_NRR], np.int64)


RATES: Mapping[int, tuple[str, int, Score]] = {
    EYE: ("eye_in_head", HEAD, eye_inside_head),
    HEAD: ("eye_in_head", EYE, head_around_eye),
    BEAK: ("beak_direction", HEAD, beak_forward),
    LEGS: ("leg_distance", BODY, distance_to_body),
}
"""By part: the name of its score, the part that must be given for it to be asked, and the score."""


def _centres(side: int) -> F64:
    """Where the middles of pixels lie on the canvas."""
    return (np.arange(side) + 0.5) * _SIDE / side - PADDING


def _distance(side: int, point_N2: F64) -> F64:
    """From each pixel to a point, on the canvas, [N, R, R]."""
    centre_R = _centres(side)
    return np.hypot(
        centre_R[None, None, :] - point_N2[:, 0, None, None], centre_R[None, :, None] - point_N2[:, 1, None, None]
    )


def _nearest(gap_NRR: F64, ink_NRR: F64) -> F64:
    """The smallest gap at any ink, at least 0; NaN without ink."""
    least_N = np.where(ink_NRR >= WALL, gap_NRR, np.inf).min((1, 2))
    return np.where(np.isfinite(least_N), np.maximum(least_N, 0), np.nan)


def _failed_where_blank(right_N: Bools, ink_NRR: F64) -> F64:
    return (right_N & (ink_NRR.sum((1, 2)) > 0)).astype(np.float64)
