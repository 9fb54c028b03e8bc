"""Drawings to be continued: stacks of part rasters, decoded once, and what a generator is given of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.data.dataset import ImagesU8, Shown, Skipped, pinned
from jobs.data.draws import uniform
from jobs.data.strokes import CANVAS, Change, Drawing, stack
from jobs.data.toybirds import Truth
from jobs.spec.sketch_data import Augment

_UNCHANGED = Augment()
_GIVEN, _CHANGE, _SELECT, _CONDITIONS = 10, 11, 12, 13


class SketchBatch(NamedTuple):
    """A share of one batch, uint8 in main memory: ink 255, paper 0."""

    part_N1HW: Tensor
    """The part, as it was drawn."""
    given_NPHW: Tensor
    """The parts that it was drawn after."""
    begun_NPHW: Tensor
    """Other drawings, stopped anywhere: for whoever learns which part comes next ..."""
    next_N: Tensor
    """... namely this one; P: none."""


class Conditions(NamedTuple):
    """What pictures are continued from."""

    given_NPHW: Tensor
    """uint8."""
    drawing_N: NDArray[np.int64]
    """Whose beginnings they are."""


@dataclass(frozen=True, eq=False)
class SketchDataset:
    """Every drawing, and which part of it is learned. `stack_NPHW` is a read-only view of a file."""

    name: str
    digest: str
    parts: tuple[str, ...]
    part: int
    """Number of the part that is learned."""
    partial: str
    """What is given: before, others or random (see jobs/spec/sketch_data.py)."""
    stack_NPHW: ImagesU8
    rank_NP: NDArray[np.int8]
    """Place of each part in the order of drawing, -1 where there is none."""
    skipped: tuple[Skipped, ...] = ()
    truth: Truth | None = None
    """The exact geometry of a generated set."""
    drawings: Sequence[Drawing] | None = None
    """Their strokes, where they are drawn anew each time."""
    line_width: float = 0.0
    augment: Augment = _UNCHANGED

    @property
    def labels_N(self) -> None:  # noqa: N802
        """A part is one class."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    @cached_property
    def examples_M(self) -> NDArray[np.int64]:  # noqa: N802
        """The drawings that have the part."""
        return np.flatnonzero(self.rank_NP[:, self.part] >= 0)

    @cached_property
    def images_NCHW(self) -> ImagesU8:  # noqa: N802
        """The part of every example by itself: dark ink on light paper, [M, 1, R, R]."""
        return 255 - self.stack_NPHW[self.examples_M, self.part][:, None]

    def __len__(self) -> int:
        return len(self.examples_M)

    def gather(self, seen: Shown) -> SketchBatch:
        """The examples that `seen` names, and as many other drawings for the selector."""
        drawing_N = self.examples_M[seen.index_N]
        stack_NPHW = self._stacks(drawing_N, seen.seed, seen.position_N, 0)
        given_NP = self._given(drawing_N, uniform(seen.seed, _GIVEN, seen.position_N, len(self.parts)))
        draws = uniform(seen.seed, _SELECT, seen.position_N, 2)
        other_N = (draws[:, 0] * len(self.stack_NPHW)).astype(np.int64)
        begun_NP, next_N = self._begun(other_N, draws[:, 1])
        other_NPHW = self._stacks(other_N, seen.seed, seen.position_N, 1)
        if seen.mirrored_N.any():
            for raster_NPHW in (stack_NPHW, other_NPHW):
                raster_NPHW[seen.mirrored_N] = raster_NPHW[seen.mirrored_N, :, :, ::-1]
        return SketchBatch(
            pinned(torch.from_numpy(stack_NPHW[:, self.part : self.part + 1].copy())),
            pinned(torch.from_numpy(stack_NPHW * given_NP[:, :, None, None])),
            pinned(torch.from_numpy(other_NPHW * begun_NP[:, :, None, None])),
            pinned(torch.from_numpy(next_N)),
        )

    def conditions(self, count: int, seed: int) -> Conditions:
        """Beginnings of `count` drawings, drawn with replacement, never changed or mirrored."""
        position_N = np.arange(count)
        draws = uniform(seed, _CONDITIONS, position_N, 1 + len(self.parts))
        drawing_N = self.examples_M[(draws[:, 0] * len(self.examples_M)).astype(np.int64)]
        given_NP = self._given(drawing_N, draws[:, 1:])
        return Conditions(torch.from_numpy(self.stack_NPHW[drawing_N] * given_NP[:, :, None, None]), drawing_N)

    def _given(self, drawing_N: NDArray[np.int64], draw_NP: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Which parts are given, [N, P]."""
        rank_NP = self.rank_NP[drawing_N]
        match self.partial:
            case "before":
                given_NP = (rank_NP >= 0) & (rank_NP < rank_NP[:, self.part, None])
            case "others":
                given_NP = rank_NP >= 0
            case _:
                given_NP = (rank_NP >= 0) & (draw_NP < 0.5)
        given_NP[:, self.part] = False
        return given_NP.astype(np.uint8)

    def _begun(
        self, drawing_N: NDArray[np.int64], draw_N: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Which parts stand in each drawing when it is stopped, [N, P], and which came next, [N]; P: none."""
        rank_NP = self.rank_NP[drawing_N]
        drawn_N = (rank_NP >= 0).sum(1)
        stop_N = (draw_N * (drawn_N + 1)).astype(np.int64)
        begun_NP = (rank_NP >= 0) & (rank_NP < stop_N[:, None])
        next_N = np.where(stop_N == drawn_N, len(self.parts), (rank_NP == stop_N[:, None]).argmax(1))
        return begun_NP.astype(np.uint8), next_N

    def _stacks(self, drawing_N: NDArray[np.int64], seed: int, position_N: NDArray[np.int64], use: int) -> ImagesU8:
        """Rasters [N, P, R, R] of drawings, copied out, or drawn anew and changed."""
        if self.drawings is None:
            return np.asarray(self.stack_NPHW[drawing_N])
        draws = uniform(seed, _CHANGE + 100 * use, position_N, 5)
        side = self.stack_NPHW.shape[2]
        return np.stack([
            stack(self.drawings[drawing], len(self.parts), side, self.line_width, _change(self.augment, draw))
            for drawing, draw in zip(drawing_N, draws, strict=True)
        ])  # fmt: skip


def _change(section: Augment, draw_5: NDArray[np.float64]) -> Change:
    """One change; `draw_5` in [0, 1): angle, shift x, shift y, scale, line width."""
    angle, shift_x, shift_y = (2 * draw_5[:3] - 1) * [section.rotate_degrees, section.shift, section.shift]
    scale, width = (low + (high - low) * draw for (low, high), draw in zip(
        (section.scale, section.line_width), draw_5[3:], strict=True
    ))  # fmt: skip
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    matrix = scale * np.array([[cosine, -sine], [sine, cosine]])
    return Change(matrix, np.array([shift_x, shift_y]) * CANVAS, float(width))
