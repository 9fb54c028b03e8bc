"""Distances between many images: fast in float32, and exact where it matters.

|x - y|² = |x|² + |y|² - 2 x·y is one matrix product, but loses digits to cancellation, most of all where images are
nearly the same, which is where copies and collapsed samples are. So float32 finds candidates, and whatever a decision
hangs on is computed again from the difference itself in float64: copies are at exactly 0 from one another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

ELEMENTS = 2**24
"""Of one block of distances: 64 MiB in float32."""
TOLERANCE = 64 * torch.finfo(torch.float32).eps
"""Of a float32 squared distance, relative to |x|² + |y|²."""
SLACK = 3
"""Candidates beyond the k nearest, among which rounding may have changed the order. Where more are as near as that,
their distances differ by no more than the tolerance."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products in float32: training may have allowed TF32, which has three digits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def squared_distances(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """|x - y|² of every pair of two small sets, [N, M], by one matrix product; at least 0."""
    product_NM = first_ND @ second_MD.T
    return (first_ND.square().sum(1)[:, None] + second_MD.square().sum(1) - 2 * product_NM).clamp_(min=0)


class Points:
    """Features of one set, ready for distances: float64 as given, and float32 around a common centre."""

    def __init__(self, features_ND: Tensor, centre_D: Tensor) -> None:
        self.exact_ND = features_ND.double()
        self.rough_ND = (self.exact_ND - centre_D).float()
        self.norm_N = self.rough_ND.square().sum(1)

    def __len__(self) -> int:
        return len(self.exact_ND)


def points(*sets_ND: Tensor) -> tuple[Points, ...]:
    """Sets of one space around the mean of the first: the smaller the norms, the less is lost in their difference."""
    centre_D = sets_ND[0].double().mean(0)
    return tuple(Points(features_ND, centre_D) for features_ND in sets_ND)


@dataclass(frozen=True)
class Block:
    """Float32 squared distances of some rows to all columns."""

    rows: Points
    columns: Points
    start: int
    squared_BM: Tensor

    @property
    def slice(self) -> slice:
        """The rows it holds."""
        return slice(self.start, self.start + len(self.squared_BM))

    def within_of_rows(self, limit_N: Tensor, *, strictly: bool) -> Tensor:
        """Pairs nearer than the squared `limit_N` of their row, or (unless `strictly`) as near, [B, M] bool; exact."""
        limit_B1, norm_B1 = limit_N[self.slice, None], self.rows.norm_N[self.slice, None]
        return self._within(limit_B1, norm_B1, strictly)

    def within_of_columns(self, limit_M: Tensor, *, strictly: bool) -> Tensor:
        """The same with the limit of their column."""
        return self._within(limit_M[None], self.columns.norm_N[None], strictly)

    def _within(self, limit: Tensor, norm: Tensor, strictly: bool) -> Tensor:
        # Where |x - y|² is near the limit, |y|² is at most 2|x|² + 2 limit: x alone bounds the rounding.
        margin = TOLERANCE * (3 * norm + 2 * limit.float())
        result_BM = self.squared_BM < limit.float() - margin
        row_P, column_P = ((self.squared_BM <= limit.float() + margin) ^ result_BM).nonzero(as_tuple=True)
        squared_P = exact(self.rows, row_P + self.start, self.columns, column_P)
        limit_P = limit.expand_as(self.squared_BM)[row_P, column_P]
        result_BM[row_P, column_P] = squared_P < limit_P if strictly else squared_P <= limit_P
        return result_BM


def blocks(rows: Points, columns: Points) -> Iterator[Block]:
    """Squared distances of all pairs, some rows and all columns at a time."""
    height = max(1, ELEMENTS // len(columns))
    for start in range(0, len(rows), height):
        part = slice(start, start + height)
        with full_precision():
            squared_BM = torch.addmm(columns.norm_N, rows.rough_ND[part], columns.rough_ND.T, alpha=-2)
        yield Block(rows, columns, start, squared_BM.add_(rows.norm_N[part, None]))


def exact(rows: Points, row_P: Tensor, columns: Points, column_P: Tensor) -> Tensor:
    """Squared distances of given pairs in float64, from their differences, [P]."""
    count = max(1, ELEMENTS // 8 // rows.exact_ND.shape[1])
    pieces = zip(row_P.split(count), column_P.split(count), strict=True)
    parts = [(rows.exact_ND[i] - columns.exact_ND[j]).square().sum(1) for i, j in pieces]
    return torch.cat(parts) if parts else rows.exact_ND.new_empty(0)


def nearest(rows: Points, columns: Points, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest columns of every row, nearest first: exact squared distances and positions, [N, k] each.

    Where `rows` and `columns` are the same object, no image is its own neighbour; a copy of it is.
    """
    same = rows is columns
    if len(columns) - same < k:
        raise ValueError(f"{len(columns)} images have no {k}-th nearest neighbour")
    squared, positions = [], []
    for block in blocks(rows, columns):
        if same:
            block.squared_BM.diagonal(offset=block.start).fill_(torch.inf)
        position_BC = block.squared_BM.topk(min(k + SLACK, len(columns) - same), largest=False).indices
        row_BC = torch.arange(block.start, block.start + len(position_BC), device=position_BC.device)[:, None]
        exact_BC = exact(rows, row_BC.expand_as(position_BC).flatten(), columns, position_BC.flatten())
        nearest_BK = exact_BC.view_as(position_BC).topk(k, largest=False, sorted=True)
        squared.append(nearest_BK.values)
        positions.append(position_BC.gather(1, nearest_BK.indices))
    return torch.cat(squared), torch.cat(positions)
