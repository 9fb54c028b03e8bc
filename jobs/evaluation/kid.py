"""Kernel distance (Bińkowski et al. 2018): unbiased MMD² with the cubic kernel k(x, y) = (x·y / d + 1)³.

Unbiased: its expectation does not depend on the number of images, and small negative values are valid.
"""

import numpy as np
import torch
from torch import Tensor

from jobs.evaluation.distances import full_precision


def squared_mmd(real_ND: Tensor, fake_MD: Tensor) -> Tensor:
    """Unbiased MMD² of two sets (Gretton et al. 2012, Equation 3): no image is compared with itself."""
    n, m = len(real_ND), len(fake_MD)
    real, fake = _augmented(real_ND), _augmented(fake_MD)
    within_real = _kernel_sum(real, real, itself=True) / (n * (n - 1))
    within_fake = _kernel_sum(fake, fake, itself=True) / (m * (m - 1))
    return within_real + within_fake - 2 * _kernel_sum(real, fake) / (n * m)


def _augmented(features_ND: Tensor) -> Tensor:
    """x/√d and a one, so that a product is x·y / d + 1 without another pass over all pairs."""
    return torch.cat([features_ND / features_ND.shape[1] ** 0.5, features_ND.new_ones(len(features_ND), 1)], dim=1)


def _kernel_sum(first_NE: Tensor, second_ME: Tensor, *, itself: bool = False) -> Tensor:
    """The kernel summed over all pairs (with `itself`, of different images): rows first, then in float64."""
    base_NM = first_NE @ second_ME.T
    if itself:
        base_NM.fill_diagonal_(0)
    return base_NM.pow(3).sum(1).double().sum()


def kernel_distances(real_ND: Tensor, fake_ND: Tensor, subsets: int, subset_images: int, seed: int) -> np.ndarray:
    """MMD² of `subsets` random pairs of subsets, each without repetition; [subsets] float64.

    The kernel distance is their mean; their standard deviation (ddof 0) is what papers print beside it.
    Products are taken in float32, whose rounding averages out over the pairs of a subset, and summed in float64.
    Subsets are drawn with numpy's `RandomState(seed)`, real first, the stream of the reference implementations.
    """
    rng = np.random.RandomState(seed)
    real_ND, fake_ND = real_ND.float(), fake_ND.float()
    values = []
    for _ in range(subsets):
        real = torch.from_numpy(rng.choice(len(real_ND), subset_images, replace=False)).to(real_ND.device)
        fake = torch.from_numpy(rng.choice(len(fake_ND), subset_images, replace=False)).to(fake_ND.device)
        with full_precision():
            values.append(squared_mmd(real_ND[real], fake_ND[fake]).item())
    return np.array(values)
