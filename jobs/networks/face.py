"""From a still image and the codes of each frame to frames: two generators.

`PerFrame` (Vougioukas et al. 2018): a code a frame, decoded with skips from the still image's encoder at every level.
`UnpaddedUNet`: the U-Net of Ronneberger et al. 2015 with valid convolutions, as people rebuild it; sound and noise are
one map each at its bottom.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.networks.plain import Norm, activation, norm_2d
from jobs.networks.voice import Voice

LEAST_SIDE = 4
"""Pixels at the bottom of PerFrame."""


class FaceGenerator(nn.Module):
    """A still [N, C, H, W] in [-1, 1], normalised sound [N, T, C, K], draws [N, T, Z] -> frames [N, T, C, H, W]."""

    def __init__(self, voice: Voice, face: "PerFrame | UnpaddedUNet") -> None:
        super().__init__()
        self.voice, self.face = voice, face

    def forward(self, still_NCHW: Tensor, normalised_NTCK: Tensor, draw_NTZ: Tensor | None) -> Tensor:
        return self.face(still_NCHW, *self.voice(normalised_NTCK, draw_NTZ))

    def last_frames(self, still_NCHW: Tensor, normalised_NTCK: Tensor, draw_NTZ: Tensor | None) -> Tensor:
        """Of each window the last frame alone [N, C, H, W]: all of it is heard, one frame is drawn."""
        heard_NTA, felt_NTZ = self.voice(normalised_NTCK, draw_NTZ)
        felt_N1Z = None if felt_NTZ is None else felt_NTZ[:, -1:]
        return self.face(still_NCHW, heard_NTA[:, -1:], felt_N1Z)[:, 0]


class PerFrame(nn.Module):
    """Codes of a frame -> a frame; `widths` are channels at half the size, a quarter ... down to 4 x 4."""

    def __init__(
        self, image: int, widths: Sequence[int], *, identity: int, heard: int, felt: int, active: str, norm: Norm
    ) -> None:
        super().__init__()
        inputs = (image, *widths)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 4, 2, 1), *norm_2d(norm, after), activation(active))
            for before, after in zip(inputs, widths, strict=False)
        )
        self.identity = nn.Sequential(nn.Conv2d(widths[-1], identity, LEAST_SIDE), nn.Tanh())
        self.grid = nn.ConvTranspose2d(identity + heard + felt, widths[-1], LEAST_SIDE)
        self.joints = nn.ModuleList(_Joint(width, active, norm) for width in reversed(widths))
        after = (*reversed(widths[:-1]), widths[0])
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(wide, narrow, 4, 2, 1), *norm_2d(norm, narrow), activation(active))
            for wide, narrow in zip(reversed(widths), after, strict=True)
        )
        self.paint = nn.Conv2d(widths[0] + image, image, 3, padding=1)

    def forward(self, still_NCHW: Tensor, heard_NTA: Tensor, felt_NTZ: Tensor | None) -> Tensor:
        count, frames = heard_NTA.shape[:2]
        skips = [still_NCHW]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        identity_NTI = self.identity(skips[-1]).flatten(1)[:, None].expand(-1, frames, -1)
        codes = [identity_NTI, heard_NTA] if felt_NTZ is None else [identity_NTI, heard_NTA, felt_NTZ]
        x = self.grid(torch.cat([code.flatten(0, 1) for code in codes], dim=1)[:, :, None, None])
        for joint, up, skip in zip(self.joints, self.up, reversed(skips[1:]), strict=True):
            x = up(joint(x, skip, frames))
        image = self.paint(torch.cat([x, still_NCHW.repeat_interleave(frames, dim=0)], dim=1))
        return torch.tanh(image).unflatten(0, (count, frames))


class _Joint(nn.Module):
    """conv3(concat(x, skip)), split by linearity: the skip is that of all frames, so its share is computed once."""

    def __init__(self, channels: int, active: str, norm: Norm) -> None:
        super().__init__()
        self.own = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.after = nn.Sequential(*norm_2d(norm, channels), activation(active))

    def forward(self, x_MCHW: Tensor, skip_NCHW: Tensor, frames: int) -> Tensor:
        return self.after(self.own(x_MCHW) + self.skip(skip_NCHW).repeat_interleave(frames, dim=0))


class UNetWidths(NamedTuple):
    """Channels of a U-Net: `enc_chs`, `dec_chs` and `up_chs` of its section."""

    down: Sequence[int]
    joined: Sequence[int]
    up: Sequence[int]


class UnpaddedUNet(nn.Module):
    """The U-Net; frames come out smaller and are enlarged to the still's size by nearest neighbours (`retain_dim`)."""

    def __init__(
        self, image: int, widths: "UNetWidths", *, bottom: int, heard: int, felt: int, active: str, norm: Norm
    ) -> None:
        """`bottom`: side of the lowest maps in pixels."""
        super().__init__()
        inputs = (image, *widths.down)
        self.bottom = bottom
        self.encoder = nn.ModuleList(_block(a, b, active, norm) for a, b in pairwise(inputs))
        self.heard = _dense_map(heard, bottom, active)
        self.felt = _dense_map(felt, bottom, active) if felt else None
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairwise(widths.up))
        self.decoder = nn.ModuleList(_block(a, b, active, norm) for a, b in pairwise(widths.joined))
        self.head = nn.Conv2d(widths.joined[-1], image, 1)

    def forward(self, still_NCHW: Tensor, heard_NTA: Tensor, felt_NTZ: Tensor | None) -> Tensor:
        count, frames = heard_NTA.shape[:2]
        levels = [self.encoder[0](still_NCHW)]
        for block in self.encoder[1:]:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        maps = [levels[-1].repeat_interleave(frames, dim=0), self._map(self.heard, heard_NTA)]
        if self.felt is not None and felt_NTZ is not None:
            maps.append(self._map(self.felt, felt_NTZ))
        x = torch.cat(maps, dim=1)
        for enlarge, block, level in zip(self.enlarge, self.decoder, reversed(levels[:-1]), strict=True):
            x = enlarge(x)
            beside = _middle(level, x.shape[-1]).repeat_interleave(frames, dim=0)
            x = block(torch.cat([beside, x], dim=1))
        frame = torch.tanh(self.head(x))
        return F.interpolate(frame, still_NCHW.shape[2:], mode="nearest").unflatten(0, (count, frames))

    def _map(self, dense: nn.Module, code_NTD: Tensor) -> Tensor:
        return dense(code_NTD.flatten(0, 1)).unflatten(1, (1, self.bottom, self.bottom))


def _block(inputs: int, outputs: int, active: str, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3), *norm_2d(norm, outputs), activation(active),
        nn.Conv2d(outputs, outputs, 3), *norm_2d(norm, outputs), activation(active),
    )  # fmt: skip


def _dense_map(code: int, side: int, active: str) -> nn.Sequential:
    return nn.Sequential(nn.Linear(code, 128), activation(active), nn.Linear(128, side * side))


def _middle(x_NCHW: Tensor, side: int) -> Tensor:
    start = (x_NCHW.shape[-1] - side) // 2
    return x_NCHW[:, :, start : start + side, start : start + side]
