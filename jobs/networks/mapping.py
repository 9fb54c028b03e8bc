"""The mapping network: z, and a class label, to w."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from jobs.networks.equalized import Dense, RectifiedDense


def normalize_second_moment(x_ND: Tensor) -> Tensor:
    """x / √(mean x²) along the last axis."""
    return x_ND * (x_ND.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    """z [N, latent], label [N] or None -> w [N, style] (StyleGAN2). `w_average` is the running mean of w.

    With `latent` 0 it maps a label alone; with 0 `layers`, w = z; z [N, K, latent] holds K vectors with one label.
    A label may be shares of the classes, [N, classes].
    """

    w_average: Tensor

    def __init__(
        self, latent: int, style: int, layers: int, lr_multiplier: float, *, classes: int = 0, normalize: bool = True
    ) -> None:
        super().__init__()
        self.embed = Dense(classes, style) if classes else None
        self.classes, self.normalize = classes, normalize
        sizes = [latent + style if classes else latent, *[style] * layers]
        self.layers = nn.ModuleList(
            RectifiedDense(inputs, outputs, lr_multiplier=lr_multiplier) for inputs, outputs in pairwise(sizes)
        )
        self.register_buffer("w_average", torch.zeros(style))

    def forward(self, z: Tensor, label_N: Tensor | None = None) -> Tensor:
        x = normalize_second_moment(z) if self.normalize else z
        if self.embed is not None:
            assert label_N is not None, "a conditional mapping network needs labels"
            soft = label_N.is_floating_point()
            one_hot = (label_N if soft else nn.functional.one_hot(label_N, self.classes)).to(x.dtype)
            code = normalize_second_moment(self.embed(one_hot))
            code = code.reshape(len(x), *[1] * (x.dim() - 2), -1).expand(*x.shape[:-1], -1)
            x = torch.cat([x, code], dim=-1)
        for layer in self.layers:
            x = layer(x)
        return x

    @torch.no_grad()
    def track_average(self, mean_D: Tensor, beta: float) -> None:
        """Moves `w_average` towards the mean of a whole batch."""
        self.w_average.lerp_(mean_D, 1 - beta)


def mean_vector(w: Tensor) -> Tensor:
    """The mean [D] of all vectors in `w` [..., D]."""
    return w.detach().float().flatten(0, -2).mean(dim=0)
