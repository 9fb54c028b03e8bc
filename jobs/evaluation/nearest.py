"""Which images of the data look most like a sample: the first question about memorisation, answered with pictures."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.evaluation.distances import nearest, points


@dataclass(frozen=True)
class Nearest:
    """For each sample its k nearest images of the data, nearest first."""

    index_MK: np.ndarray
    """Positions in the data."""
    distance_MK: np.ndarray
    """Euclidean distances in the feature space."""


def nearest_of(sample_MD: Tensor, blocks: Iterable[Tensor], k: int) -> Nearest:
    """The k nearest of the rows of all `blocks` (consecutive [B, D] pieces of the data) to each sample."""
    best_MK = torch.empty(len(sample_MD), 0, dtype=torch.float64, device=sample_MD.device)
    index_MK = torch.empty(len(sample_MD), 0, dtype=torch.int64, device=sample_MD.device)
    start = 0
    for block_BD in blocks:
        sample, block = points(sample_MD, block_BD.to(sample_MD.device))
        squared_MK, position_MK = nearest(sample, block, min(k, len(block)))
        squared_MC, position_MC = torch.cat([best_MK, squared_MK], 1), torch.cat([index_MK, position_MK + start], 1)
        best_MK, order_MK = squared_MC.topk(min(k, squared_MC.shape[1]), dim=1, largest=False)
        index_MK = position_MC.gather(1, order_MK)
        start += len(block)
    return Nearest(index_MK.cpu().numpy(), best_MK.sqrt().cpu().numpy())
