"""Kernel distance (Bińkowski et al. 2018): unbiased MMD² with the cubic kernel k(x, y) = (x·y / d + 1)³.

Unbiased: its expectation does not depend on the number of images, and small negative values are valid.
"""

import numpy as np
import torch
from torch import Tensor

from jobs.evaluation.distances import full_precision

ROWS = 1024
"""Of a kernel, at a time."""


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
    n, m = len(real_ND), len(fake_ND)
    drawn = [
        (rng.choice(n, subset_images, replace=False), rng.choice(m, subset_images, replace=False))
        for _ in range(subsets)
    ]
    real_SK, fake_SK = (torch.from_numpy(np.stack(part)).to(real_ND.device) for part in zip(*drawn, strict=True))
    with full_precision():
        if max(n, m) ** 2 <= subsets * subset_images**2:  # all pairs are fewer than those of all subsets
            return _of_all_pairs(real_ND, fake_ND, real_SK, fake_SK)
        pairs = zip(real_SK, fake_SK, strict=True)
        return np.array([squared_mmd(real_ND[real], fake_ND[fake]).item() for real, fake in pairs])


def _of_all_pairs(real_ND: Tensor, fake_MD: Tensor, real_SK: Tensor, fake_SK: Tensor) -> np.ndarray:
    """MMD² of every pair of subsets (K images each, by their indices), from one pass over all pairs of images."""
    real, fake = _augmented(real_ND), _augmented(fake_MD)
    count = real_SK.shape[1]
    real_NS, fake_MS = _members(real_SK, len(real)), _members(fake_SK, len(fake))
    within = _sums(real, real, real_NS, real_NS, itself=True) + _sums(fake, fake, fake_MS, fake_MS, itself=True)
    between = _sums(real, fake, real_NS, fake_MS)
    values: np.ndarray = (within / (count * (count - 1)) - 2 * between / count**2).cpu().numpy()
    return values


def _members(index_SK: Tensor, images: int) -> Tensor:
    """1 where an image is in a subset, else 0: [images, S] float64."""
    members = torch.zeros(images, len(index_SK), dtype=torch.float64, device=index_SK.device)
    return members.scatter_(0, index_SK.T, 1.0)


def _sums(first: Tensor, second: Tensor, first_NS: Tensor, second_MS: Tensor, *, itself: bool = False) -> Tensor:
    """The kernel summed over the pairs of each subset, vᵀ K u, [S]; K is made a few rows at a time."""
    sums = torch.zeros(first_NS.shape[1], dtype=torch.float64, device=first.device)
    for start in range(0, len(first), ROWS):
        kernel_RM = (first[start : start + ROWS] @ second.T).pow_(3)
        if itself:
            kernel_RM.diagonal(start).zero_()
        sums += (first_NS[start : start + ROWS] * (kernel_RM.double() @ second_MS)).sum(0)
    return sums
