"""The Inception Score's formula with any classifier (Salimans et al. 2016, Equation 1); named by its classifier.

Only the score with Inception's own 1008 logits may be called IS; those weights are in no package.
"""

import math

import torch
from torch import Tensor


def divergences(logits_NC: Tensor) -> Tensor:
    """KL(p(y|x) || p(y)) of every image, [N] in nats; the score is exp of their mean."""
    log_given_NC = torch.log_softmax(logits_NC.double(), dim=1)
    log_overall_C = log_given_NC.logsumexp(0) - math.log(len(logits_NC))
    return (log_given_NC.exp() * (log_given_NC - log_overall_C)).sum(1)


def classifier_score(logits_NC: Tensor) -> float:
    """exp(mean KL): from 1 (all alike, or all unclear) to the number of classes (all clear, all classes alike)."""
    return divergences(logits_NC).mean().exp().item()
