"""Half of the modes of the data: half of its classes, or, where it has no labels, half of its clusters."""

import numpy as np
import torch
from torch import Tensor

from jobs.evaluation.distances import squared_distances

CLUSTERS = 10
ROUNDS = 20


def half_of_modes(modes_N: np.ndarray) -> np.ndarray:
    """Which images belong to every second mode, [N] bool: about half of the images, and none of the other half."""
    present = np.unique(modes_N)
    return np.isin(modes_N, present[::2]) if len(present) > 1 else np.zeros(len(modes_N), dtype=bool)


def classes(labels_N: np.ndarray) -> np.ndarray:
    """One integer an image from labels that are integers [N] or one-hot rows [N, L]."""
    return labels_N if labels_N.ndim == 1 else labels_N.argmax(1)


def clusters(features_ND: Tensor, seed: int) -> np.ndarray:
    """One integer an image by k-means with k-means++ starts (Arthur and Vassilvitskii 2007), [N]."""
    features_ND = features_ND.double()
    rng = np.random.RandomState(seed)
    centres_KD = features_ND[rng.randint(len(features_ND))][None]
    while len(centres_KD) < min(CLUSTERS, len(features_ND)):
        weight_N = squared_distances(features_ND, centres_KD).amin(1)
        if not bool(weight_N.sum() > 0):  # fewer different images than clusters
            break
        chosen = int(torch.searchsorted(weight_N.cumsum(0), weight_N.sum() * rng.random_sample()))
        centres_KD = torch.cat([centres_KD, features_ND[min(chosen, len(features_ND) - 1)][None]])
    for _ in range(ROUNDS):
        nearest_N = squared_distances(features_ND, centres_KD).argmin(1)
        sums_KD = torch.zeros_like(centres_KD).index_add_(0, nearest_N, features_ND)
        counts_K1 = torch.bincount(nearest_N, minlength=len(centres_KD))[:, None]
        centres_KD = torch.where(counts_K1 > 0, sums_KD / counts_K1.clamp(min=1), centres_KD)
    return squared_distances(features_ND, centres_KD).argmin(1).cpu().numpy()
