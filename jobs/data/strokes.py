"""Drawings as strokes on DoodlerGAN's canvas of 512, and their rasters: ink 255, paper 0."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

F64 = NDArray[np.float64]
CANVAS, PADDING = 512.0, 24.0
"""Canvas, and the margin around it: a padding of 16 and half a line of 16, as DoodlerGAN's preparation has it."""
_FINE_SIDE = 128


@dataclass(frozen=True)
class Drawing:
    """What was drawn, part by part."""

    strokes: dict[int, tuple[F64, ...]]
    """By number of the part: polylines [K, 2] in canvas units, x right, y down."""
    order: tuple[int, ...]
    """Parts in the order of drawing, each once: what is added to a part later counts as drawn with it."""


@dataclass(frozen=True)
class Change:
    """An augmentation: every point turned and scaled around the middle, then shifted; the width of the line scaled."""

    matrix: F64
    """[2, 2]"""
    shift: F64
    """[2], in canvas units."""
    line_width: float = 1.0

    def apply(self, points_K2: F64) -> F64:
        return (points_K2 - CANVAS / 2) @ self.matrix.T + CANVAS / 2 + self.shift


def rasterise(strokes: tuple[F64, ...], side: int, line_width: float) -> NDArray[np.uint8]:
    """[side, side]: lines with round ends and joints, drawn finer than the raster and averaged down."""
    fine = max(4, _FINE_SIDE // side)
    scale = side * fine / (CANVAS + 2 * PADDING)
    width = max(line_width * scale, 1.0)
    picture = Image.new("L", (side * fine, side * fine))
    draw = ImageDraw.Draw(picture)
    for points_K2 in strokes:
        line = [
            tuple(point) for point in ((points_K2 + PADDING) * scale - 0.5).tolist()
        ]  # a pixel's middle is its place
        if len(line) > 1:
            draw.line(line, fill=255, width=round(width), joint="curve")
        for x, y in {line[0], line[-1]}:
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return np.asarray(picture.reduce(fine))


def stack(
    drawing: Drawing, parts: int, side: int, line_width: float, change: Change | None = None
) -> NDArray[np.uint8]:
    """[parts, side, side]: the raster of each part, empty where there is none."""
    raster_PHW = np.zeros((parts, side, side), np.uint8)
    width = line_width * (1.0 if change is None else change.line_width)
    for part, strokes in drawing.strokes.items():
        moved = strokes if change is None else tuple(change.apply(points) for points in strokes)
        raster_PHW[part] = rasterise(moved, side, width)
    return raster_PHW


def ranks(drawing: Drawing, parts: int) -> NDArray[np.int8]:
    """[parts]: the place of each part in the order of drawing, -1 where there is none."""
    rank_P = np.full(parts, -1, np.int8)
    rank_P[list(drawing.order)] = np.arange(len(drawing.order), dtype=np.int8)
    return rank_P
