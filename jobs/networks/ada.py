"""The three groups of changes of ADA (Karras et al. 2020, appendix B), each change with a probability of its own draw.

Images [N, C, R, R] in [-1, 1]. Changes of place are one matrix an image, from places in the result to places in the
source, in coordinates where the image's edges are -1 and 1. Geometry is computed at twice the resolution between the
[1, 3, 3, 1] filters of the networks, in place of the original's longer wavelet filters.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.networks.grid_sample import sample
from jobs.networks.resample import downsample2, upsample2

LUMA = 3**-0.5
"""Each component of the unit vector along which all colours are equal."""


def _sometimes(value_N: Tensor, neutral: float, p: Tensor) -> Tensor:
    """`value` with probability p, else what changes nothing."""
    return torch.where(torch.rand(len(value_N), device=value_N.device) < p, value_N, neutral)


def _matrix(rows: list[list[Tensor | float]], like_N: Tensor) -> Tensor:
    """[N, rows, columns] of numbers and of one number an image."""
    cells = [cell if isinstance(cell, Tensor) else torch.full_like(like_N, cell) for row in rows for cell in row]
    return torch.stack(cells, dim=-1).reshape(-1, len(rows), len(rows[0]))


def _rotation(angle_N: Tensor) -> Tensor:
    cosine, sine = angle_N.cos(), angle_N.sin()
    return _matrix([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]], angle_N)


def _scaling(x_N: Tensor, y_N: Tensor) -> Tensor:
    return _matrix([[x_N, 0.0, 0.0], [0.0, y_N, 0.0], [0.0, 0.0, 1.0]], x_N)


def _shift(x_N: Tensor, y_N: Tensor) -> Tensor:
    """In shares of the side, which is 2 long."""
    return _matrix([[1.0, 0.0, 2 * x_N], [0.0, 1.0, 2 * y_N], [0.0, 0.0, 1.0]], x_N)


def _warp(x_NCHW: Tensor, matrix_N33: Tensor) -> Tensor:
    grid = F.affine_grid(matrix_N33[:, :2], list(x_NCHW.shape), align_corners=False)
    return sample(x_NCHW, grid)


class Blit(nn.Module):
    """Flips, quarter turns, shifts by whole pixels up to an eighth: pixels move, none is interpolated."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        def draw() -> Tensor:
            return torch.rand(len(x), device=x.device)

        flip = _sometimes(1 - 2 * (2 * draw()).floor(), 1.0, p)
        turn = _sometimes((4 * draw()).floor() * (math.pi / 2), 0.0, p)
        moves = torch.rand(len(x), device=x.device) < p
        right, down = (
            torch.where(moves, ((draw() - 0.5) / 4 * self.resolution).round() / self.resolution, 0.0) for _ in range(2)
        )
        matrix = _scaling(flip, torch.ones_like(flip)) @ _rotation(turn) @ _shift(right, down)
        return _warp(x, matrix)


class Geometry(nn.Module):
    """Scaling, rotation, stretching, rotation again, shifts: all of them interpolate."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.up, self.down = upsample2(resolution), downsample2(2 * resolution)

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        def normal(deviation: float) -> Tensor:
            return torch.randn(len(x), device=x.device) * deviation

        def angle() -> Tensor:
            return (2 * torch.rand(len(x), device=x.device) - 1) * math.pi

        p_rotation = 1 - (1 - p).sqrt()  # twice: then one of both happens with probability p
        size = _sometimes(normal(0.2).exp2(), 1.0, p)
        before = _sometimes(angle(), 0.0, p_rotation)
        stretch = _sometimes(normal(0.2).exp2(), 1.0, p)
        after = _sometimes(angle(), 0.0, p_rotation)
        moves = torch.rand(len(x), device=x.device) < p
        right, down = (torch.where(moves, normal(1 / 8), 0.0) for _ in range(2))
        matrix = _scaling(size, size) @ _rotation(before) @ _scaling(stretch, 1 / stretch)
        matrix = matrix @ _rotation(after) @ _shift(right, down)
        changed = (matrix != torch.eye(3, device=x.device)).any(dim=2).any(dim=1)
        warped: Tensor = self.down(_warp(self.up(x), matrix))
        return torch.where(changed[:, None, None, None], warped, x)


class Colour(nn.Module):
    """Brightness, contrast, and of colour images luma flip, hue, saturation; transparency stays."""

    axis: Tensor

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.register_buffer("axis", torch.full([3], LUMA), persistent=False)

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        def normal(deviation: float) -> Tensor:
            return torch.randn(len(x), device=x.device) * deviation

        brightness = _sometimes(normal(0.2), 0.0, p)[:, None, None, None]
        contrast = _sometimes(normal(0.5).exp2(), 1.0, p)[:, None, None, None]
        if x.shape[1] < 3:
            return (x + brightness) * contrast
        colour = (x[:, :3] + brightness) * contrast
        colour = torch.einsum("nij,njhw->nihw", self._turned(len(x), p), colour)
        return torch.cat([colour, x[:, 3:]], dim=1)

    def _turned(self, count: int, p: Tensor) -> Tensor:
        """Of the component along the luma axis and the two beside it: flipped; turned by an angle and stretched."""
        device = self.axis.device
        flip = _sometimes(1 - 2 * (2 * torch.rand(count, device=device)).floor(), 1.0, p)[:, None, None]
        angle = _sometimes((2 * torch.rand(count, device=device) - 1) * math.pi, 0.0, p)[:, None, None]
        saturation = _sometimes(torch.randn(count, device=device).exp2(), 1.0, p)[:, None, None]
        along = torch.outer(self.axis, self.axis)
        beside = torch.eye(3, device=device) - along
        quarter = torch.linalg.cross(self.axis.expand(3, 3), torch.eye(3, device=device)).t()  # v -> axis x v
        return along * flip + (beside * angle.cos() + quarter * angle.sin()) * saturation  # Rodrigues
