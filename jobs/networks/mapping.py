"""The mapping network: z, and a class label, to w."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from jobs.networks.equalized import Dense, leaky_relu


def normalize_second_moment(x_ND: Tensor) -> Tensor:
    """x / √(mean x²) along the last axis."""
    return x_ND * (x_ND.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    """z [N, latent], label [N] or None -> w [N, style] (StyleGAN2). `w_average` is the running mean of w.

    With `latent` 0 it maps a label alone.
    """

    w_average: Tensor

    def __init__(self, latent: int, style: int, layers: int, lr_multiplier: float, *, classes: int = 0) -> None:
        super().__init__()
        self.embed = Dense(classes, style) if classes else None
        self.classes = classes
        sizes = [latent + style if classes else latent, *[style] * layers]
        self.layers = nn.ModuleList(
            Dense(inputs, outputs, lr_multiplier=lr_multiplier) for inputs, outputs in pairwise(sizes)
        )
        self.register_buffer("w_average", torch.zeros(style))

    def forward(self, z_ND: Tensor, label_N: Tensor | None = None) -> Tensor:
        x = normalize_second_moment(z_ND)
        if self.embed is not None:
            assert label_N is not None, "a conditional mapping network needs labels"
            one_hot = nn.functional.one_hot(label_N, self.classes).to(x.dtype)
            x = torch.cat([x, normalize_second_moment(self.embed(one_hot))], dim=1)
        for layer in self.layers:
            x = leaky_relu(layer(x))
        return x

    @torch.no_grad()
    def track_average(self, w_ND: Tensor, beta: float) -> None:
        """Moves `w_average` towards the mean of `w_ND`."""
        self.w_average.lerp_(w_ND.detach().float().mean(dim=0), 1 - beta)
