"""Precision, recall, density and coverage from nearest-neighbour balls, blockwise in bounded memory.

A ball around an image reaches to its k-th nearest neighbour in its own set (itself not counted).

- precision: share of generated images inside some ball of a real image; recall: the roles exchanged
  (Kynkäänniemi et al. 2019, Equation 2; the boundary belongs to the ball, `<=`);
- density: in how many real balls a generated image lies, over k; coverage: share of real images whose ball holds a
  generated image (Naeem et al. 2020, Equations 3 and 4; the boundary does not belong, `<`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.evaluation.distances import blocks, nearest, points


@dataclass(frozen=True)
class Neighbourhoods:
    """Per-image outcomes, whose means are the metrics; kept apart, so that intervals can be drawn over images."""

    precise_M: Tensor
    recalled_N: Tensor
    dense_M: Tensor
    covered_N: Tensor


def squared_radii(features_ND: Tensor, k: int) -> Tensor:
    """Squared distances of each image to its 1st to k-th nearest neighbours in the same set, [N, k] float64.

    Raises ValueError if there are none.
    """
    (same,) = points(features_ND)
    return nearest(same, same, k)[0]


def neighbourhoods(
    real_ND: Tensor, fake_MD: Tensor, k_precision: int, k_density: int, *, real_radii_NK: Tensor | None = None
) -> Neighbourhoods:
    """Which images lie in whose balls. `real_radii_NK`: the squared radii of the real images, if they are known.

    Raises ValueError if a set has no k-th neighbour.
    """
    if real_radii_NK is None:
        real_radii_NK = squared_radii(real_ND, max(k_precision, k_density))
    real_p_N, real_d_N = real_radii_NK[:, k_precision - 1], real_radii_NK[:, k_density - 1]
    fake_p_M = squared_radii(fake_MD, k_precision)[:, -1]

    real, fake = points(real_ND, fake_MD)
    device = real_ND.device
    precise_M = torch.zeros(len(fake), dtype=torch.bool, device=device)
    balls_M = torch.zeros(len(fake), dtype=torch.float64, device=device)
    recalled, covered = [], []
    for block in blocks(real, fake):
        precise_M |= block.within_of_rows(real_p_N, strictly=False).any(0)
        recalled.append(block.within_of_columns(fake_p_M, strictly=False).any(1))
        dense_BM = block.within_of_rows(real_d_N, strictly=True)
        balls_M += dense_BM.sum(0)
        covered.append(dense_BM.any(1))
    return Neighbourhoods(
        precise_M.double(), torch.cat(recalled).double(), balls_M / k_density, torch.cat(covered).double()
    )
