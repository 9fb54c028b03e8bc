"""Copies of the data among the samples."""

from torch import Tensor

from jobs.evaluation.distances import nearest, points
from jobs.evaluation.prdc import squared_radii


def memorised(real_ND: Tensor, fake_MD: Tensor, *, real_radii_NK: Tensor | None = None) -> Tensor:
    """Which samples are nearer to an image of the data than that image is to any other of the data, [M] 0 or 1.

    One minus authenticity (Alaa et al. 2022, Section 4). New images from the same source are found so too, by chance,
    about half of the time: the value of other real images is what it must be compared with. `real_radii_NK`: squared
    distances of the real images to their nearest, if they are known.
    """
    apart_N = (squared_radii(real_ND, 1) if real_radii_NK is None else real_radii_NK)[:, 0]
    real, fake = points(real_ND, fake_MD)
    squared_M1, position_M1 = nearest(fake, real, k=1)
    return (squared_M1[:, 0] <= apart_N[position_M1[:, 0]]).double()
