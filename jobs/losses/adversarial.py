"""What a discriminator's verdict costs. Logits are [N, 1]; larger means more real. Every loss is a mean over images."""

import torch.nn.functional as F
from torch import Tensor


def logistic_real(logit_N1: Tensor) -> Tensor:
    """-log D(x) = softplus(-logit): the discriminator on real images (Goodfellow et al. 2014)."""
    return F.softplus(-logit_N1).mean()


def logistic_fake(logit_N1: Tensor) -> Tensor:
    """-log(1 - D(G(z))) = softplus(logit): the discriminator on generated images."""
    return F.softplus(logit_N1).mean()


def logistic_fool(logit_N1: Tensor) -> Tensor:
    """-log D(G(z)) = softplus(-logit): the generator, in the non-saturating form."""
    return F.softplus(-logit_N1).mean()
