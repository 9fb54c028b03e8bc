"""What a discriminator's verdict costs. Logits have any shape; larger means more real, 0 is undecided.

Every loss is a mean over all logits: over images, and over patches where there are.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

Kind = Literal["logistic", "hinge"]


def logistic_real(logit: Tensor) -> Tensor:
    """-log D(x) = softplus(-logit): the discriminator on real images (Goodfellow et al. 2014)."""
    return F.softplus(-logit).mean()


def logistic_fake(logit: Tensor) -> Tensor:
    """-log(1 - D(G(z))) = softplus(logit): the discriminator on generated images."""
    return F.softplus(logit).mean()


def logistic_fool(logit: Tensor) -> Tensor:
    """-log D(G(z)) = softplus(-logit): the generator, in the non-saturating form."""
    return F.softplus(-logit).mean()


def square_real(logit: Tensor) -> Tensor:
    """(D(x) - 1)² (Mao et al. 2017), with D(x) = logit + 1/2, so that 0 is undecided here too."""
    return (logit - 0.5).square().mean()


def square_fake(logit: Tensor) -> Tensor:
    """D(G(z))²."""
    return (logit + 0.5).square().mean()


def hinge_real(logit: Tensor) -> Tensor:
    """max(0, 1 - logit) (Lim and Ye 2017)."""
    return F.relu(1 - logit).mean()


def hinge_fake(logit: Tensor) -> Tensor:
    """max(0, 1 + logit)."""
    return F.relu(1 + logit).mean()


def critic_real(logit: Tensor) -> Tensor:
    """-logit (Arjovsky et al. 2017)."""
    return -logit.mean()


def critic_fake(logit: Tensor) -> Tensor:
    """logit."""
    return logit.mean()


class Adversarial(NamedTuple):
    """What real and generated images cost the discriminator, and generated ones the generator."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    fool: Callable[[Tensor], Tensor]


LOGISTIC = Adversarial(logistic_real, logistic_fake, logistic_fool)
SQUARES = Adversarial(square_real, square_fake, square_real)
HINGE = Adversarial(hinge_real, hinge_fake, critic_real)
CRITIC = Adversarial(critic_real, critic_fake, critic_real)


def stance(logit_N1: Tensor, shares: int) -> tuple[Tensor, Tensor]:
    """Mean logit and mean sign of it, as one of `shares` shares: what a discriminator thinks."""
    logit = logit_N1.detach()
    return logit.mean() / shares, logit.sign().mean() / shares
