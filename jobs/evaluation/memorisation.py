"""Copies of the data among the samples."""

import torch
from torch import Tensor

from jobs.evaluation.prdc import BLOCK, squared_distances, squared_radii


def memorised(real_ND: Tensor, fake_MD: Tensor) -> Tensor:
    """Which samples are nearer to an image of the data than that image is to any other of the data, [M] 0 or 1.

    One minus authenticity (Alaa et al. 2022, Section 4). New images from the same source are found so too, by chance,
    about half of the time: the value of other real images is what it must be compared with.
    """
    centre_D = real_ND.double().mean(0)
    real_ND, fake_MD = real_ND.double() - centre_D, fake_MD.double() - centre_D
    apart_N = squared_radii(real_ND, k=1)
    outcomes = []
    for rows_BD in fake_MD.split(BLOCK):
        nearest_B, index_B = _nearest(rows_BD, real_ND)
        outcomes.append(nearest_B <= apart_N[index_B])
    return torch.cat(outcomes).double()


def _nearest(rows_BD: Tensor, real_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance to the nearest of the data, and its position."""
    best_B = torch.full((len(rows_BD),), torch.inf, dtype=torch.float64, device=rows_BD.device)
    index_B = torch.zeros(len(rows_BD), dtype=torch.int64, device=rows_BD.device)
    for start in range(0, len(real_ND), BLOCK):
        squared_B, position_B = squared_distances(rows_BD, real_ND[start : start + BLOCK]).min(1)
        nearer_B = squared_B < best_B
        best_B, index_B = torch.where(nearer_B, squared_B, best_B), torch.where(nearer_B, position_B + start, index_B)
    return best_B, index_B
