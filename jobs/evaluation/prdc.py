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

BLOCK = 1024
"""Rows and columns of one block of distances: 8 MiB in float64."""


@dataclass(frozen=True)
class Neighbourhoods:
    """Per-image outcomes, whose means are the metrics; kept apart, so that intervals can be drawn over images."""

    precise_M: Tensor
    recalled_N: Tensor
    dense_M: Tensor
    covered_N: Tensor


def squared_distances(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """|x - y|² of every pair, [N, M], at least 0."""
    product_NM = first_ND @ second_MD.T
    return (first_ND.square().sum(1)[:, None] + second_MD.square().sum(1) - 2 * product_NM).clamp_(min=0)


def squared_radii(features_ND: Tensor, k: int, block: int = BLOCK) -> Tensor:
    """Squared distance of each image to its k-th nearest neighbour in the same set, [N]. Needs N > k."""
    if len(features_ND) <= k:
        raise ValueError(f"{len(features_ND)} images have no {k}-th nearest neighbour")
    radii = []
    for start in range(0, len(features_ND), block):
        rows_BD = features_ND[start : start + block]
        nearest_BK = torch.empty(len(rows_BD), 0, dtype=features_ND.dtype, device=features_ND.device)
        for columns in range(0, len(features_ND), block):
            squared_BC = squared_distances(rows_BD, features_ND[columns : columns + block])
            if columns == start:  # itself is not a neighbour; a copy of it is
                squared_BC.fill_diagonal_(torch.inf)
            candidates = torch.cat([nearest_BK, squared_BC], dim=1)
            nearest_BK = candidates.topk(min(k, candidates.shape[1]), largest=False).values
        radii.append(nearest_BK.amax(1))
    return torch.cat(radii)


def neighbourhoods(real_ND: Tensor, fake_MD: Tensor, k_precision: int, k_density: int) -> Neighbourhoods:
    """Which images lie in whose balls; distances in float64 on the features' device, `BLOCK`² at a time."""
    centre_D = real_ND.double().mean(0)  # distances do not change, but less is lost in their differences
    real_ND, fake_MD = real_ND.double() - centre_D, fake_MD.double() - centre_D
    real_p, real_d = (squared_radii(real_ND, k) for k in (k_precision, k_density))
    fake_p = squared_radii(fake_MD, k_precision)
    precise_M = torch.zeros(len(fake_MD), dtype=torch.bool, device=real_ND.device)
    inside_M = torch.zeros(len(fake_MD), dtype=torch.float64, device=real_ND.device)
    recalled_N = torch.zeros(len(real_ND), dtype=torch.bool, device=real_ND.device)
    covered_N = torch.zeros_like(recalled_N)
    for i in range(0, len(real_ND), BLOCK):
        for j in range(0, len(fake_MD), BLOCK):
            real, fake = slice(i, i + BLOCK), slice(j, j + BLOCK)
            squared_BC = squared_distances(real_ND[real], fake_MD[fake])
            precise_M[fake] |= (squared_BC <= real_p[real, None]).any(0)
            recalled_N[real] |= (squared_BC <= fake_p[fake]).any(1)
            within = squared_BC < real_d[real, None]
            inside_M[fake] += within.sum(0)
            covered_N[real] |= within.any(1)
    return Neighbourhoods(precise_M.double(), recalled_N.double(), inside_M / k_density, covered_N.double())
