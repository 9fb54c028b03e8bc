"""What a face looks like beside how its mouth moves: halves, eyes, and whose it is. Films [T, C, H, W] in uint8."""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from jobs.evaluation.lips import F64, Box, Film, luma
from jobs.evaluation.random_conv import RandomConv

ALIKE = 0.75
"""Normalised cross-correlation with an eye from which on a place looks like one."""
CHUNK = 64


def halves_correlation(film_TCHW: Film) -> float:
    """Pearson's, of the pixels of the upper half of a frame with those of the lower half; mean over frames."""
    brightness_THW = luma(film_TCHW)
    half = brightness_THW.shape[1] // 2
    upper, lower = (part.reshape(len(part), -1) for part in (brightness_THW[:, :half], brightness_THW[:, -half:]))
    upper, lower = (part - part.mean(1, keepdims=True) for part in (upper, lower))
    size_T = np.sqrt((upper**2).sum(1) * (lower**2).sum(1))
    return float(((upper * lower).sum(1) / np.maximum(size_T, 1e-9)).mean())


def half_errors(made_TCHW: Film, real_TCHW: Film) -> tuple[float, float]:
    """Mean absolute difference in the upper and in the lower half, in [0, 1]."""
    away_T = np.abs(made_TCHW.astype(np.float64) - real_TCHW) / 255
    half = away_T.shape[2] // 2
    return float(away_T[:, :, :half].mean()), float(away_T[:, :, half:].mean())


def eyes_seen(film_TCHW: Film, eye: NDArray[np.float64]) -> float:
    """Mean count of places in a frame that look like `eye`, a patch [h, w] of brightness.

    Peaks of the normalised cross-correlation above `ALIKE`, no two within an eye's width.
    """
    height, width = eye.shape
    pattern = eye - eye.mean()
    counts = []
    for brightness_HW in luma(film_TCHW):
        patch_HWhw = sliding_window_view(brightness_HW, eye.shape)
        centred = patch_HWhw - patch_HWhw.mean((2, 3), keepdims=True)
        size_HW = np.sqrt((centred**2).sum((2, 3)) * (pattern**2).sum())
        likeness_HW = (centred * pattern).sum((2, 3)) / np.maximum(size_HW, 1e-6)
        counts.append(_peaks(likeness_HW, height, width))
    return float(np.mean(counts))


def eye_patch(still_CHW: NDArray[np.uint8], place_2: NDArray[np.float32], half_height: int, half_width: int) -> F64:
    """Brightness around an eye at (column, row)."""
    column, row = (round(float(x)) for x in place_2)
    brightness_HW = luma(still_CHW[None])[0]
    return brightness_HW[row - half_height : row + half_height + 1, column - half_width : column + half_width + 1]


def eye_boxes(landmarks_K2: NDArray[np.float32], side: int) -> tuple[Box, Box]:
    """Boxes around two eyes at (column, row), for frames of `side` pixels."""
    reach_x, reach_y = max(side // 12, 2), max(side // 20, 1)
    left, right = (
        Box(round(x) - reach_x, round(y) - reach_y, round(x) + reach_x + 1, round(y) + reach_y + 1)
        for x, y in landmarks_K2.tolist()
    )
    return left, right


def _peaks(likeness_HW: F64, height: int, width: int) -> int:
    """Greedily: the best place, then the best of those that do not touch it, while they look alike."""
    rest, count = likeness_HW.copy(), 0
    while rest.max() > ALIKE:
        row, column = np.unravel_index(int(rest.argmax()), rest.shape)
        rest[max(row - height + 1, 0) : row + height, max(column - width + 1, 0) : column + width] = -1
        count += 1
    return count


@torch.no_grad()
def embedded(film_TCHW: Film) -> F64:
    """Features of frames without learned weights [T, D]."""
    network = RandomConv().eval()
    signed = torch.from_numpy(np.ascontiguousarray(film_TCHW)).float() / 127.5 - 1
    signed = signed.expand(-1, 3, -1, -1) if signed.shape[1] == 1 else signed[:, :3]
    return torch.cat([network(part) for part in signed.split(CHUNK)]).double().numpy()


def identity_distance(film_TCHW: Film, own_D: F64, stranger_SD: F64) -> float:
    """Mean distance of frames to their own still image, over their mean distance to those of strangers.

    Below 1 they are nearer to whom they shall be; real frames say how near that can be.
    """
    frame_TD = embedded(film_TCHW)
    own = np.linalg.norm(frame_TD - own_D, axis=1).mean()
    others = np.linalg.norm(frame_TD[:, None] - stranger_SD, axis=2).mean()
    return float(own / max(others, 1e-9))
