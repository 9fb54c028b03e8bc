"""Vendi score (Friedman and Dieng 2023): the effective number of different images in a set."""

import torch
import torch.nn.functional as F
from torch import Tensor


def vendi_score(features_ND: Tensor) -> float:
    """exp of the entropy of the eigenvalues of K/N with the cosine kernel (Definition 3.1): from 1 (all alike) to N."""
    unit_ND = F.normalize(features_ND.double(), dim=1)
    images, dimensions = unit_ND.shape
    gram = unit_ND @ unit_ND.T if images <= dimensions else unit_ND.T @ unit_ND  # the same eigenvalues but for zeros
    eigenvalues = torch.linalg.eigvalsh(gram / images).clamp(min=0)
    return torch.special.entr(eigenvalues).sum().exp().item()
