"""StyleSpace (Wu et al. 2021): what the affine layers make of w, one number a channel of every styled convolution.

The styles of to-RGB layers are left out, as in StylEx. A coordinate is moved where it arises, so that everything after
it sees the moved value.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs.networks.injection import Modulation
from jobs.networks.styled import StyledConv
from jobs.networks.synthesis import Synthesis


class Coordinate(NamedTuple):
    """One style channel."""

    layer: str
    channel: int

    def __str__(self) -> str:
        return f"{self.layer} · {self.channel}"


class StyleSpace:
    """Reads the styles [N, S] of a synthesis network, and makes its pictures with moved ones; always without noise."""

    def __init__(self, synthesis: Synthesis) -> None:
        self.synthesis = synthesis
        self.affines: list[nn.Module] = []
        self.coordinates: list[Coordinate] = []
        self._ends = [0]
        for size, block in zip(synthesis.sizes, synthesis.blocks, strict=True):
            for name, layer in block.named_children():
                if isinstance(layer, StyledConv):
                    modulation = layer.injection
                    assert isinstance(modulation, Modulation), "the spec allows no other injection"
                    channels = layer.weight.shape[1]
                    self.affines.append(modulation.affine)
                    self.coordinates += [Coordinate(f"{size}×{size} {name}", channel) for channel in range(channels)]
                    self._ends.append(self._ends[-1] + channels)

    def __len__(self) -> int:
        return len(self.coordinates)

    @torch.no_grad()
    def read(self, w_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Styles [N, S] of w, and the pictures [N, C, R, R] in [-1, 1] that they make."""
        styles: list[Tensor] = []
        handles = [
            affine.register_forward_hook(lambda _module, _inputs, style: styles.append(style))
            for affine in self.affines
        ]
        try:
            image_NCHW = self._pictures(w_ND)
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat(styles, dim=1), image_NCHW

    @torch.no_grad()
    def moved(self, w_ND: Tensor, shift_NS: Tensor) -> Tensor:
        """Pictures [N, C, R, R] in [-1, 1] of w with `shift_NS` added to their styles."""
        with self._shifted(shift_NS):
            return self._pictures(w_ND)

    def _pictures(self, w_ND: Tensor) -> Tensor:
        every_layer = w_ND[:, None].expand(-1, self.synthesis.styles, -1)
        return self.synthesis(every_layer, noise_scale=0.0).clamp(-1, 1)

    @contextmanager
    def _shifted(self, shift_NS: Tensor) -> Iterator[None]:
        handles = []
        for affine, start, end in zip(self.affines, self._ends[:-1], self._ends[1:], strict=True):
            part_NC = shift_NS[:, start:end]
            handles.append(affine.register_forward_hook(lambda _module, _inputs, style, part=part_NC: style + part))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
