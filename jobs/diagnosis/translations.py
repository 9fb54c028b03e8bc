"""What detectors of an image translation read: inputs, what became of them, and how it came about, layer by layer.

Pictures are float32 in [0, 1], [N, C, H, W]. A layer's peaks are looked at where a normaliser reads: a spike there can
set the scale of the whole map (Karras et al. 2020, section 2.1), which is how holes begin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

from jobs.diagnosis.detector import Images

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

HOT, SPIKE = 8.0, 15.0
"""z beyond which a pixel of a map is hot ("pre-hole"), and beyond which it is a spike: 3.4 and 5.5 times the median
where the spread is the least. Gaussian features stay below 4."""
LEAST_SPREAD = 0.3
"""The spread of a map counts as at least this share of its median. A flat wall has none: measured on an untrained
network, its edges alone stand out by 3 times the median."""
TOP_SHARE = 0.001
"""Of the pixels of a map: the few that hold little of its energy in a healthy network."""
BLUR_PIXELS = 1.0
HOLE_DEVIATIONS, HOLE_LEAST_ERROR = 4.0, 0.1
HOLE_LEAST_PIXELS, HOLE_MOST_SHARE = 9, 0.02
GAP_PIXELS = 2
"""Between the pictures of a sheet."""
DARKER = 0.3
"""Without a known translation: by how much a hole is darker or less opaque than the input."""


@dataclass(frozen=True)
class LayerPeaks:
    """Norms over channels of what one normaliser reads."""

    label: str
    norm_NHW: F32

    @cached_property
    def z_NHW(self) -> F64:  # noqa: N802
        """(n - median) / max(1.4826 · MAD, 0.3 · median), by picture."""
        norm = self.norm_NHW.astype(np.float64)
        median_N11 = np.median(norm, axis=(1, 2), keepdims=True)
        spread_N11 = 1.4826 * np.median(np.abs(norm - median_N11), axis=(1, 2), keepdims=True)
        z_NHW: F64 = (norm - median_N11) / np.maximum(spread_N11, np.maximum(LEAST_SPREAD * median_N11, 1e-12))
        return z_NHW

    @property
    def peak_N(self) -> F64:  # noqa: N802
        """The strongest pixel of each picture."""
        peak_N: F64 = self.z_NHW.max(axis=(1, 2))
        return peak_N

    @property
    def top_energy_N(self) -> F64:  # noqa: N802
        """Share of the energy in the strongest thousandth of the pixels (one pixel at least)."""
        energy_NP = np.square(self.norm_NHW.reshape(len(self.norm_NHW), -1).astype(np.float64))
        count = max(int(energy_NP.shape[1] * TOP_SHARE), 1)
        top_N = np.partition(energy_NP, -count, axis=1)[:, -count:].sum(1)
        share_N: F64 = top_N / np.maximum(energy_NP.sum(1), 1e-12)
        return share_N

    def stands_out(self) -> float:
        """z that a quarter of the pictures exceed."""
        return float(np.quantile(self.peak_N, 0.75))


@dataclass(frozen=True)
class Translations:
    """One moment of a run, on inputs that are the same every time."""

    images: int
    source_NCHW: F32
    made_NCHW: F32
    truth_NCHW: F32 | None
    """The known translation; None where nobody knows it."""
    real_NCHW: F32
    """Real images of the other domain."""
    layers: Sequence[LayerPeaks]
    smuggled: float | None = None
    """How much of a picture's spread changes far away from the strongest pixels of a layer when these are cut down."""
    cycle_error: float | None = None
    """Mean absolute difference after there and back again."""
    noisy_cycle_error: float | None = None
    """The same with a little noise on the translation, in between."""
    noise_error: float = 0.0
    """What that noise alone amounts to."""

    @cached_property
    def worst_layer(self) -> LayerPeaks | None:
        """The layer whose pixels stand out most."""
        return max(self.layers, key=LayerPeaks.stands_out) if self.layers else None

    @cached_property
    def hole_NHW(self) -> Bools:  # noqa: N802
        """Holes of the pictures that were made."""
        if self.truth_NCHW is not None:
            return holes(np.abs(self.made_NCHW - self.truth_NCHW).mean(1))
        return blobs(_missing(self.source_NCHW, self.made_NCHW) > DARKER)

    @property
    def likeness_NCHW(self) -> F32:  # noqa: N802
        """What a translation must look like in its shapes: the truth, or else its input."""
        return self.source_NCHW if self.truth_NCHW is None else self.truth_NCHW


def holes(error_NHW: F32) -> Bools:
    """Small, compact places of large error: above mean + 4 deviations of their picture after a blur."""
    smooth_NHW = gaussian_filter(error_NHW.astype(np.float64), (0, BLUR_PIXELS, BLUR_PIXELS))
    mean, deviation = smooth_NHW.mean((1, 2), keepdims=True), smooth_NHW.std((1, 2), keepdims=True)
    return blobs(smooth_NHW > np.maximum(mean + HOLE_DEVIATIONS * deviation, HOLE_LEAST_ERROR))


def blobs(mask_NHW: Bools) -> Bools:
    """Connected parts of `mask_NHW` of 9 pixels to 2 % of a picture; the others are taken out."""
    kept = np.zeros_like(mask_NHW)
    most = HOLE_MOST_SHARE * mask_NHW[0].size
    for index, mask_HW in enumerate(mask_NHW):
        parts_HW, _ = label(mask_HW)
        sizes = np.bincount(parts_HW.ravel())
        good = (sizes >= HOLE_LEAST_PIXELS) & (sizes <= most)
        good[0] = False
        kept[index] = good[parts_HW]
    return kept


def count_blobs(mask_NHW: Bools) -> NDArray[np.int64]:
    """Connected parts of each picture."""
    return np.array([label(mask_HW)[1] for mask_HW in mask_NHW], np.int64)


def _missing(source_NCHW: F32, made_NCHW: F32) -> F32:
    """By how much each pixel is darker than the input's, or less opaque, whichever is more."""
    missing_NHW: F32 = colour(source_NCHW).mean(1) - colour(made_NCHW).mean(1)
    if made_NCHW.shape[1] == 4:
        missing_NHW = np.maximum(missing_NHW, source_NCHW[:, 3] - made_NCHW[:, 3])
    return gaussian_filter(missing_NHW, (0, BLUR_PIXELS, BLUR_PIXELS))


def colour(image_NCHW: F32) -> F32:
    """All but alpha."""
    return image_NCHW[:, :3] if image_NCHW.shape[1] == 4 else image_NCHW


def edges(image_NCHW: F32) -> F64:
    """Length of the gradient over all channels, √(Σ_c |∇x_c|²), [N, H, W].

    Not of the brightness: light from one side moves its edges, by 0.65 pixels on height maps, which no network did.
    """
    down, right = np.gradient(image_NCHW.astype(np.float64), axis=(2, 3))
    length_NHW: F64 = np.sqrt((down**2 + right**2).sum(1))
    return length_NHW


def overlay(seen: Translations, rows: int = 4) -> Images:
    """For people: a row a picture: input, each layer's norms with hot pixels, the result with its holes, the truth.

    Norms are dark (least) to bright (largest); hot pixels orange, spikes red; holes are framed red.
    """
    side = seen.made_NCHW.shape[2]
    tiles = []
    for index in range(min(rows, len(seen.made_NCHW))):
        tiles.append(_rgb(seen.source_NCHW[index]))
        tiles += [_marked(layer, index, side) for layer in seen.layers]
        tiles.append(_framed(_rgb(seen.made_NCHW[index]), seen.hole_NHW[index]))
        if seen.truth_NCHW is not None:
            tiles.append(_rgb(seen.truth_NCHW[index]))
    return np.stack(tiles)


def sheet(seen: Translations) -> Images:
    """`overlay` as one picture, [1, 3, H, W]: where columns must stay under one another."""
    tiles = overlay(seen)
    count = len(columns(seen))
    gap = ((0, 0), (0, 0), (0, GAP_PIXELS), (0, GAP_PIXELS))
    padded = np.pad(tiles, gap, constant_values=255)
    rows = [np.concatenate(list(padded[start : start + count]), axis=2) for start in range(0, len(padded), count)]
    return np.concatenate(rows, axis=1)[None]


def columns(seen: Translations) -> tuple[str, ...]:
    """What the columns of `overlay` show."""
    layers = [layer.label for layer in seen.layers]
    return ("input", *layers, "result", *(["truth"] if seen.truth_NCHW is not None else []))


def _rgb(image_CHW: F32) -> Images:
    """uint8 [3, H, W]; transparency lies over grey."""
    shown = image_CHW[:3] if len(image_CHW) >= 3 else np.repeat(image_CHW[:1], 3, axis=0)
    if len(image_CHW) == 4:
        shown = shown * image_CHW[3:] + 0.5 * (1 - image_CHW[3:])
    return (shown * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _marked(layer: LayerPeaks, index: int, side: int) -> Images:
    """A map of norms with its hot pixels in colour, at the size of the pictures."""
    norm_HW, z_HW = layer.norm_NHW[index], layer.z_NHW[index]
    low, high = float(norm_HW.min()), float(np.quantile(norm_HW, 0.99))
    grey_HW = ((norm_HW - low) / max(high - low, 1e-12)).clip(0, 1) * 220
    shown = np.repeat(grey_HW[None], 3, axis=0)
    shown[:, z_HW > HOT] = np.array([255, 150, 0])[:, None]
    shown[:, z_HW > SPIKE] = np.array([230, 0, 0])[:, None]
    row, column = (np.arange(side) * length // side for length in norm_HW.shape)
    return shown[:, row][:, :, column].astype(np.uint8)


def _framed(picture_3HW: Images, hole_HW: Bools) -> Images:
    """`picture_3HW` with the rims of its holes in red."""
    grown = hole_HW.copy()
    grown[1:] |= hole_HW[:-1]
    grown[:-1] |= hole_HW[1:]
    grown[:, 1:] |= hole_HW[:, :-1]
    grown[:, :-1] |= hole_HW[:, 1:]
    framed = picture_3HW.copy()
    framed[:, grown & ~hole_HW] = np.array([230, 0, 0], np.uint8)[:, None]
    return framed
