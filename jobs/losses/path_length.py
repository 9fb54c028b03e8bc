"""Path length regularisation with its running mean: state that a checkpoint must hold."""

import torch
from torch import Tensor, nn

from jobs.losses.penalties import path_lengths
from jobs.spec.stylegan2 import PathLength


class PathLengthPenalty(nn.Module):
    """(‖Jᵀ_w y‖ - a)², a the running mean of lengths (Karras et al. 2020, Equation 4); to be weighted.

    `vectors`: those that one layer reads, for `reduce: sum_over_k`.
    """

    mean: Tensor

    def __init__(self, section: PathLength, vectors: int) -> None:
        super().__init__()
        self.decay = section.decay
        self.summed = vectors if section.reduce == "sum_over_k" else 1
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, gradient_NLD: Tensor) -> tuple[Tensor, Tensor]:
        """Mean penalty over images, of their gradient `on_noise`, and mean length.

        These images move the running mean for themselves alone.
        """
        length_N = path_lengths(gradient_NLD, summed=self.summed)
        mean = self.mean.lerp(length_N.mean(), self.decay)
        return (length_N - mean).square().mean(), length_N.detach().mean()

    @torch.no_grad()
    def track(self, length: Tensor) -> None:
        """Moves the running mean towards the mean length of the whole batch, once all micro-batches are over."""
        self.mean.lerp_(length, self.decay)


class RunningMean(nn.Module):
    """One running number that a checkpoint must hold."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
