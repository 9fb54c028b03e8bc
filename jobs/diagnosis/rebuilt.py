"""What detectors of a StylEx read: real images, what encoder and generator make of them, what the classifier says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.diagnosis.detector import Images
from jobs.diagnosis.inputs import F64


@dataclass(frozen=True)
class Rebuilt:
    """Images at one moment, the same real ones at every check."""

    real_NCHW: Images
    made_NCHW: Images
    """Their reconstructions."""
    real_ND: F64
    made_ND: F64
    drawn_MD: F64 | None
    """Features in one space: of real images, of reconstructions, of pictures made from latents (None: none)."""
    said_NK: F64
    says_NK: F64
    """The classifier's probabilities on real images and on reconstructions."""
    encoded_ND: F64
    mapped_MD: F64 | None
    """w from the encoder and from the mapping, what the classifier said left out; None: one of both is not trained."""
    swapped_N: F64 | None
    """By how much the probability of another class changes when w is told of that class; None: w is told nothing."""


def agreement(seen: Rebuilt) -> float:
    """Share of images of which the classifier says the same before and after."""
    return float((seen.said_NK.argmax(1) == seen.says_NK.argmax(1)).mean())


def divergence(seen: Rebuilt) -> float:
    """KL(C(x) ‖ C(x')) in nats, mean over images."""
    p, q = (np.clip(x, 1e-12, 1) for x in (seen.said_NK, seen.says_NK))
    return float((p * np.log(p / q)).sum(1).mean())


def pair(seen: Rebuilt) -> Images:
    """Real images and their reconstructions by turns, for people."""
    both = np.stack([seen.real_NCHW, seen.made_NCHW], axis=1)[:32]
    return both.reshape(-1, *both.shape[2:])


def separability(first_ND: F64, second_MD: F64) -> float:
    """How well a linear classifier tells two clouds apart: the area under its ROC on the half that it has not seen.

    Fisher's discriminant, with a ridge of a hundredth of the mean variance.
    """
    learn = [cloud[0::2] for cloud in (first_ND, second_MD)]
    within_DD = np.mean([np.atleast_2d(np.cov(cloud.T)) for cloud in learn], axis=0)
    ridge = 0.01 * np.trace(within_DD) / len(within_DD) + 1e-12
    axis_D = np.linalg.solve(within_DD + ridge * np.eye(len(within_DD)), learn[1].mean(0) - learn[0].mean(0))
    low_N, high_M = (cloud[1::2] @ axis_D for cloud in (first_ND, second_MD))
    above: NDArray[np.bool_] = high_M[:, None] > low_N
    return float(above.mean() + 0.5 * (high_M[:, None] == low_N).mean())


def laplacian_energy(image_NCHW: Images) -> float:
    """Mean square of the Laplacian of brightness: how much fine detail there is."""
    grey = image_NCHW.mean(1, dtype=np.float64) / 255
    inner = 4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    return float((inner**2).mean())
