"""ModeGrid: a generated set whose modes can be counted exactly, and the matcher that counts them.

One coloured shape on black; which shape, which hue and which cell of a 3 x 3 grid make the mode (576 with all of
them). Within a mode the shape is shifted by at most one pixel and slightly scaled; both take few values, so that the
set is finite, every image is a known template, and the nearest template of any picture can be found by one matrix
product. Lengths are in pixels of a 32 x 32 image.
"""

import colorsys
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from jobs.data.dataset import ImagesU8, LabelsI64
from jobs.data.source import Block, Items, Source
from jobs.spec.data import ModeGrid

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

_CELLS = ((0, 0), (-1, -1), (1, 1), (1, -1), (-1, 1), (0, -1), (0, 1), (-1, 0), (1, 0))
"""(right, down) of the middle, the middle first, so that few positions are far apart."""
_CELL_NAMES = (
    "middle", "top left", "bottom right", "top right", "bottom left", "top", "bottom", "left", "right",
)  # fmt: skip
_CELL_PIXELS, _RADIUS_PIXELS = 10.0, 4.5
_SUPERSAMPLE = 8

MAX_RESIDUAL = 0.15
"""A picture farther than this from its nearest template, as a share of the template's energy, shows no mode."""
MAX_RATIO = 0.5
"""And neither does one whose distance to its mode is more than this share of the one to the next mode (squares).

The first test refuses what is no such picture, the second what lies between two modes. At 32 x 32 pixels they still
accept noise of 10 levels (98 % of pictures) and a shift by half a pixel (95 %), but no blend in halves of two modes of
one hue or of neighbouring hues. (Hues farther apart mix to the hue between them, which is a mode.)
"""

_SHAPES: dict[str, Callable[[F32, F32], Bools]] = {  # x, y in [-1, 1], y down
    "corner": lambda x, y: ((x <= -0.4) | (y >= 0.4)) & (np.maximum(abs(x), abs(y)) <= 0.95),
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.3),
    "plus": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.27) & (np.maximum(abs(x), abs(y)) <= 1),
    "cross": lambda x, y: (np.minimum(abs(x + y), abs(x - y)) <= 0.4) & (np.maximum(abs(x), abs(y)) <= 0.95),
    "triangle up": lambda x, y: (y <= 0.8) & (abs(x) <= (y + 1) / 1.8),
    "triangle down": lambda x, y: (y >= -0.8) & (abs(x) <= (1 - y) / 1.8),
    "two bars lying": lambda x, y: (abs(abs(y) - 0.65) <= 0.3) & (abs(x) <= 0.95),
    "two bars standing": lambda x, y: (abs(abs(x) - 0.65) <= 0.3) & (abs(y) <= 0.95),
}


@dataclass(frozen=True)
class ModeCoverage:
    """How well samples cover the modes of a grid. All logarithms are natural."""

    samples: int
    total: int
    """Modes that the data has: dropped ones are not among them."""
    covered: int
    """Those that at least one sample shows."""
    covered_expected: float
    """What as many samples of the data itself would cover on average: the ceiling for `covered`."""
    precision: float
    """Share of samples that show any mode of the data."""
    dropped: float
    """Share of samples that show a mode which was left out of the data."""
    kl: float | None
    """KL(samples ‖ data) over the modes of the data, in nats; 0 is best. None where no sample shows a mode.

    The data itself gives about (modes - 1) / (2 · samples), for counts scatter."""
    reverse_kl: float
    """KL(data ‖ samples), with 1/2 added to every count so that a mode never seen costs much, not everything."""


def modegrid_source(section: ModeGrid) -> Source:
    """The set that `section` describes; draws nothing yet."""

    @contextmanager
    def opened() -> Iterator[Items]:
        drawing = _plan(section)
        labels_N = drawing.mode_N if section.labels else None
        yield Items(
            section.images,
            lambda start, stop: Block(
                _draw(section, drawing, slice(start, stop)), np.ones(stop - start, dtype=np.bool_), []
            ),
            labels_N,
            drawing.mode_N,
            mode_names(section) if section.labels else (),
        )

    return Source("modegrid", section.model_dump(exclude={"mirror"}), opened)


def generate(section: ModeGrid) -> tuple[ImagesU8, LabelsI64]:
    """All images of the set [N, 3, R, R] and their modes [N]."""
    drawing = _plan(section)
    return _draw(section, drawing, slice(None)), drawing.mode_N


def mode_names(section: ModeGrid) -> tuple[str, ...]:
    """Names of the modes 0, 1, ...: shape, hue in degrees, position."""
    return tuple(
        f"{shape}, hue {360 * hue // section.hues}, {cell}"
        for shape in tuple(_SHAPES)[: section.shapes]
        for hue in range(section.hues)
        for cell in _CELL_NAMES[: section.positions]
    )


def kept_modes(section: ModeGrid) -> LabelsI64:
    """The modes that the data has, ascending."""
    dropped = section.dropped_modes
    if isinstance(dropped, float):
        order = np.argsort(_bits(section, 0).random_raw(section.modes), kind="stable")
        dropped = tuple(order[: section.dropped_count].tolist())
    return np.setdiff1d(np.arange(section.modes, dtype=np.int64), np.array(dropped, dtype=np.int64))


def assign_modes(images_NCHW: ImagesU8, section: ModeGrid) -> LabelsI64:
    """The mode that each picture [N, 3, R, R] shows, dropped modes included, or -1: see MAX_RESIDUAL, MAX_RATIO."""
    templates = _templates(section.resolution, section.shapes, section.positions, section.jitter, section.scale_jitter)
    blocks = [images_NCHW[start : start + 2048] for start in range(0, len(images_NCHW), 2048)]
    return np.concatenate([_assign(block, templates, section) for block in blocks] or [np.empty(0, np.int64)])


def mode_coverage(images_NCHW: ImagesU8, section: ModeGrid) -> ModeCoverage:
    """Count the modes in pictures [N, 3, R, R]."""
    return coverage_of(assign_modes(images_NCHW, section), section)


def coverage_of(mode_N: LabelsI64, section: ModeGrid) -> ModeCoverage:
    """Coverage of assigned modes [N] (-1: none)."""
    kept = kept_modes(section)
    samples, total = len(mode_N), len(kept)
    counts = np.bincount(mode_N[mode_N >= 0], minlength=section.modes)
    shown = counts[kept]
    data = np.full(total, 1 / total)
    return ModeCoverage(
        samples=samples,
        total=total,
        covered=int((shown > 0).sum()),
        covered_expected=float(total * (1 - (1 - 1 / total) ** samples)),
        precision=float(shown.sum() / max(samples, 1)),
        dropped=float((counts.sum() - shown.sum()) / max(samples, 1)),
        kl=_kl(shown / shown.sum(), data) if shown.any() else None,
        reverse_kl=_kl(data, (shown + 0.5) / (shown.sum() + 0.5 * total)),
    )


def _kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())


@dataclass(frozen=True)
class _Templates:
    """Every mask: how much of each pixel the shape covers, in [0, 1]."""

    mask_KP: F32
    cell_K: LabelsI64
    """shape · positions + position of mask k: its mode but for the hue."""
    variants: int
    """Consecutive masks of one cell: its scales and shifts."""


@dataclass(frozen=True)
class _Drawing:
    """What every image shows."""

    mode_N: LabelsI64
    variant_N: LabelsI64


def _plan(section: ModeGrid) -> _Drawing:
    """Modes in equal numbers (within one), in random order; a random variant each."""
    kept = kept_modes(section)
    shuffled = np.argsort(_bits(section, 1).random_raw(section.images), kind="stable")
    spare = np.argsort(_bits(section, 2).random_raw(len(kept)), kind="stable")  # which modes appear once more
    mode_N = kept[spare[np.arange(section.images) % len(kept)]][shuffled]
    variants = _variants(section.jitter, section.scale_jitter)
    variant_N = (_bits(section, 3).random_raw(section.images) % np.uint64(len(variants))).astype(np.int64)
    return _Drawing(mode_N, variant_N)


def _draw(section: ModeGrid, drawing: _Drawing, which: slice) -> ImagesU8:
    mode_N, variant_N = drawing.mode_N[which], drawing.variant_N[which]
    templates = _templates(section.resolution, section.shapes, section.positions, section.jitter, section.scale_jitter)
    shape_hue_N, position_N = mode_N // section.positions, mode_N % section.positions
    cell_N = shape_hue_N // section.hues * section.positions + position_N
    mask_NP = templates.mask_KP[cell_N * templates.variants + variant_N]
    colour_NC = _colours(section.hues)[shape_hue_N % section.hues]
    image_NCP = (mask_NP[:, None] * (255 * colour_NC[:, :, None]) + 0.5).astype(np.uint8)
    return image_NCP.reshape(len(mode_N), 3, section.resolution, section.resolution)


def _assign(images_NCHW: ImagesU8, templates: _Templates, section: ModeGrid) -> LabelsI64:
    """Nearest template c ⊗ m in squared distance |x - c ⊗ m|² = |x|² - 2 <x, c ⊗ m> + |c|² |m|², then two tests.

    The hue is chosen by the colour of the whole picture, the mask given the hue; the residual is over everything.
    """
    image_NCP: F32 = images_NCHW.reshape(len(images_NCHW), 3, -1).astype(np.float32) / np.float32(255)
    colour_HC = _colours(section.hues)
    energy_H = (colour_HC**2).sum(1)
    # Intensity of a picture that is all of one colour: <x, c>/|c|²; the hue is the one that leaves the least.
    total_NC = image_NCP.sum(2)
    along_NH = total_NC @ colour_HC.T
    hue_N = (along_NH / np.sqrt(energy_H)).argmax(1)
    chosen_NC = colour_HC[hue_N]
    flat_NP = np.einsum("ncp,nc->np", image_NCP, chosen_NC) / energy_H[hue_N, None]
    distance_NK = (templates.mask_KP**2).sum(1) - 2 * flat_NP @ templates.mask_KP.T  # but for |flat|²
    by_cell = distance_NK.reshape(len(flat_NP), -1, templates.variants)
    nearest_NL = by_cell.min(2)
    cell_N = nearest_NL.argmin(1)
    mask_N = cell_N * templates.variants + np.take_along_axis(by_cell, cell_N[:, None, None], 1)[:, 0].argmin(1)
    residual_NH = _residuals(image_NCP, templates.mask_KP[mask_N], colour_HC)
    rows = np.arange(len(flat_NP))
    residual_N = residual_NH[rows, hue_N]
    next_N = np.minimum(
        _second(residual_NH, hue_N),
        residual_N + energy_H[hue_N] * (_second(nearest_NL, cell_N) - nearest_NL[rows, cell_N]),
    )
    energy_N = energy_H[hue_N] * (templates.mask_KP[mask_N] ** 2).sum(1)
    shows = (residual_N <= MAX_RESIDUAL * energy_N) & (residual_N <= MAX_RATIO * next_N)
    shape_N, position_N = cell_N // section.positions, cell_N % section.positions
    mode_N = (shape_N * section.hues + hue_N) * section.positions + position_N
    return np.where(shows, mode_N, -1).astype(np.int64)


def _residuals(image_NCP: F32, mask_NP: F32, colour_HC: F32) -> F32:
    """Squared distance of each picture to its mask in every hue [N, H]."""
    toward_NH = np.einsum("ncp,np->nc", image_NCP, mask_NP) @ colour_HC.T
    energy_NH = (mask_NP**2).sum(1)[:, None] * (colour_HC**2).sum(1)
    return ((image_NCP**2).sum((1, 2))[:, None] - 2 * toward_NH + energy_NH).clip(0)


def _second(value_NK: F32, first_N: LabelsI64) -> F32:
    """The least value of each row but for the one at `first_N`; infinite where there is no other."""
    others = value_NK.copy()
    others[np.arange(len(others)), first_N] = np.inf
    return others.min(1)


def _colours(hues: int) -> F32:
    """Full colours [H, 3] in [0, 1], spread evenly over the circle of hues."""
    return np.array([colorsys.hsv_to_rgb(hue / hues, 1, 1) for hue in range(hues)], dtype=np.float32)


def _variants(jitter: int, scale_jitter: float) -> list[tuple[float, int, int]]:
    """(scale, shift right, shift down) of all variants of a mode; the plain one is in the middle."""
    scales = (1 - scale_jitter, 1.0, 1 + scale_jitter) if scale_jitter else (1.0,)
    shifts = range(-jitter, jitter + 1)
    return [(scale, right, down) for scale in scales for right in shifts for down in shifts]


@lru_cache(maxsize=4)
def _templates(resolution: int, shapes: int, positions: int, jitter: int, scale_jitter: float) -> _Templates:
    variants = _variants(jitter, scale_jitter)
    masks = [
        _mask(resolution, shape, cell, variant)
        for shape in tuple(_SHAPES.values())[:shapes]
        for cell in _CELLS[:positions]
        for variant in variants
    ]
    return _Templates(np.stack(masks), np.arange(len(masks)) // len(variants), len(variants))


def _mask(
    resolution: int,
    inside: Callable[[F32, F32], Bools],
    cell: tuple[int, int],
    variant: tuple[float, int, int],
) -> F32:
    """Coverage of every pixel [R · R]; only the window around the shape is supersampled."""
    scale, *shift = variant
    pixel = 32 / resolution
    radius = _RADIUS_PIXELS * scale
    window: list[slice] = []
    fine: list[F32] = []
    for cell_index, pixels in zip(cell, shift, strict=True):
        middle = 16 + _CELL_PIXELS * cell_index + pixels
        first, last = math.floor((middle - radius) / pixel), math.ceil((middle + radius) / pixel)
        samples = (np.arange(first * _SUPERSAMPLE, last * _SUPERSAMPLE) + 0.5) * pixel / _SUPERSAMPLE
        window.append(slice(first, last))
        fine.append(((samples - middle) / radius).astype(np.float32))
    (x, y), (columns, rows) = fine, window
    covered = inside(x[None, :], y[:, None]).reshape(len(y) // _SUPERSAMPLE, _SUPERSAMPLE, -1, _SUPERSAMPLE)
    mask = np.zeros((resolution, resolution), dtype=np.float32)
    mask[rows, columns] = covered.mean((1, 3))
    return mask.reshape(-1)


def _bits(section: ModeGrid, purpose: int) -> np.random.PCG64:
    """Raw draws, which numpy keeps equal between its versions."""
    return np.random.PCG64([section.seed, purpose])
