"""Copies of the data among the samples."""

from torch import Tensor

from jobs.evaluation.distances import nearest, points


def memorised(real_ND: Tensor, fake_MD: Tensor) -> Tensor:
    """Which samples are nearer to an image of the data than that image is to any other of the data, [M] 0 or 1.

    One minus authenticity (Alaa et al. 2022, Section 4). New images from the same source are found so too, by chance,
    about half of the time: the value of other real images is what it must be compared with.
    """
    real, fake = points(real_ND, fake_MD)
    apart_N1, _ = nearest(real, real, k=1)
    squared_M1, position_M1 = nearest(fake, real, k=1)
    return (squared_M1 <= apart_N1[position_M1[:, 0]])[:, 0].double()
