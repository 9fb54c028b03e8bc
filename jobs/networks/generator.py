"""A generator with a style: latents to w, w to every layer, mixed or not, to an image. Recipes share it."""

import torch
from torch import Tensor, nn

from jobs.networks.mapping import MappingNetwork
from jobs.networks.precision import Precision
from jobs.networks.synthesis import Synthesis
from jobs.spec.stylegan2 import Generator


class StyleGenerator(nn.Module):
    """z [N, K, latent], label [N] or None -> image [N, C, R, R]; K vectors a layer, 1 in StyleGAN2."""

    def __init__(self, shape: Generator, resolution: int, channels: int, classes: int, precision: Precision) -> None:
        super().__init__()
        assert shape.mapping.layers is not None, "a resolved spec"
        self.latent = shape.latent
        self.mapping = MappingNetwork(
            shape.latent,
            shape.style,
            shape.mapping.layers,
            shape.mapping.lr_multiplier,
            classes=classes,
            normalize=shape.mapping.normalize_z,
        )
        self.synthesis = Synthesis(shape, resolution, channels, precision)
        if shape.mapping.frozen:
            keep_as_drawn(self.mapping)

    def forward(self, z_NKD: Tensor, label_N: Tensor | None = None, *, truncation_psi: float = 1.0) -> Tensor:
        w = self.mapping(z_NKD, label_N)
        if truncation_psi != 1.0:
            w = self.mapping.w_average.lerp(w, truncation_psi)
        return self.synthesis(self.to_every_layer(w))

    def latents(self, count: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
        """z [count, K, latent]."""
        return torch.randn(count, self.synthesis.vectors, self.latent, device=device, generator=generator)

    def to_every_layer(self, w_NKD: Tensor) -> Tensor:
        """The same K vectors for all L layers: [N, L·K, D]."""
        return w_NKD[:, None].expand(-1, self.synthesis.styles, -1, -1).flatten(1, 2)

    def independent(self, count: int, label_N: Tensor | None, device: torch.device) -> Tensor:
        """A w of its own for every layer: W+ [N, L·K, D]."""
        layers = self.synthesis.styles
        z = self.latents(count * layers, device)
        w = self.mapping(z, None if label_N is None else label_N.repeat_interleave(layers))
        return w.unflatten(0, (count, layers)).flatten(1, 2)

    def styles(
        self, count: int, label_N: Tensor | None, device: torch.device, *, mixing: float, align_to_k: bool
    ) -> tuple[Tensor, Tensor]:
        """w [N, K, D] of fresh latents, and styles [N, L·K, D].

        With probability `mixing`, a second latent takes over from a random cut on: one cut for all images.
        `align_to_k` cuts between layers, at multiples of K; else between any two of the L·K vectors.
        """
        z = self.latents(count, device)
        rows, unit = self.synthesis.styles * self.synthesis.vectors, self.synthesis.vectors if align_to_k else 1
        if not mixing or rows == unit:
            w = self.mapping(z, label_N)
            return w, self.to_every_layer(w)
        mixes = torch.rand([], device=device) < mixing
        cut = torch.where(mixes, torch.randint(1, rows // unit, [], device=device), rows // unit) * unit
        both = torch.cat([z, self.latents(count, device)])
        w, other = self.mapping(both, None if label_N is None else torch.cat([label_N, label_N])).chunk(2)
        below_cut = (torch.arange(rows, device=device) < cut)[None, :, None]
        return w, torch.where(below_cut, self.to_every_layer(w), self.to_every_layer(other))


def keep_as_drawn(module: nn.Module) -> None:
    """Turns every parameter below `module` into a buffer: saved, copied to the average, known to no optimizer."""
    for inner in module.modules():
        for name, parameter in list(inner.named_parameters(recurse=False)):
            delattr(inner, name)
            inner.register_buffer(name, parameter.detach())
