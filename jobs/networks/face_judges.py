"""Three discriminators of a talking face: of a frame, of a sequence, of a sequence's being in time with its sound.

Each gives logits [M, K] whose mean is its verdict; only `Sequence` of architecture gru bounds them, as it was tried.
"""

from collections.abc import Sequence as Listed
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.networks.plain import Norm, activation, norm_2d
from jobs.networks.voice import AudioEncoder

KERNEL = 4


def convolutions(inputs: int, outputs: Listed[int], active: str, norm: Norm, *, last: bool) -> list[nn.Module]:
    """Convolutions 4 x 4 of stride 2; `last`: the last one is bare, for it makes the logits."""
    layers: list[nn.Module] = []
    for at, width in enumerate(outputs):
        layers.append(nn.Conv2d(inputs, width, KERNEL, 2, 1))
        if not (last and at == len(outputs) - 1):
            layers += [*(norm_2d(norm, width) if at else []), activation(active)]
        inputs = width
    return layers


class IdentityJudge(nn.Module):
    """A frame and the still image, stacked -> logits [M, K], one a patch."""

    def __init__(self, image: int, chs: Listed[int], *, active: str, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(*convolutions(2 * image, chs, active, norm, last=True))

    def forward(self, frame_MCHW: Tensor, still_MCHW: Tensor) -> Tensor:
        return self.layers(torch.cat([frame_MCHW, still_MCHW], dim=1)).flatten(1)


class PatchJudge(nn.Module):
    """The same with the PatchGAN of Isola et al. 2017."""

    def __init__(self, image: int, ndf: int, n_layers: int, *, active: str, norm: Norm) -> None:
        super().__init__()
        widths = [ndf * min(2**layer, 8) for layer in range(n_layers)]
        wide = ndf * min(2**n_layers, 8)
        self.layers = nn.Sequential(
            *convolutions(2 * image, widths, active, norm, last=False),
            nn.Conv2d(widths[-1], wide, KERNEL, 1, 1), *norm_2d(norm, wide), activation(active),
            nn.Conv2d(wide, 1, KERNEL, 1, 1),
        )  # fmt: skip

    def forward(self, frame_MCHW: Tensor, still_MCHW: Tensor) -> Tensor:
        return self.layers(torch.cat([frame_MCHW, still_MCHW], dim=1)).flatten(1)


class SequenceJudge(nn.Module):
    """Consecutive frames [M, T, C, H, W] -> logits [M, K]."""

    def __init__(
        self, architecture: Literal["conv_gru", "gru", "gru_head"], shape: tuple[int, int, int], chs: Listed[int], *,
        h_size: int, layers: int, active: str, norm: Norm,
    ) -> None:  # fmt: skip
        """`shape` of a frame: C, H, W."""
        super().__init__()
        image, height, width = shape
        self.look = nn.Sequential(
            *(convolutions(image, chs, active, norm, last=False) if architecture == "conv_gru" else ()), nn.Flatten()
        )
        places = (height >> len(chs)) * (width >> len(chs)) * chs[-1]
        size = places if architecture == "conv_gru" else image * height * width
        self.memory = nn.GRU(size, h_size, layers, batch_first=True)
        self.head = nn.Identity() if architecture == "gru" else nn.Linear(h_size, 1)

    def forward(self, video_MTCHW: Tensor) -> Tensor:
        seen_MTD = self.look(video_MTCHW.flatten(0, 1)).unflatten(0, video_MTCHW.shape[:2])
        return self.head(self.memory(seen_MTD)[1][-1])


class SequenceJudge3d(nn.Module):
    """The same with convolutions over time: 3 x 4 x 4, halving the frame at each and the time while it lasts."""

    def __init__(self, image: int, chs: Listed[int], *, active: str) -> None:
        super().__init__()
        widths = (image, *chs)
        layers = [
            layer
            for before, after in zip(widths, chs, strict=False)
            for layer in (nn.Conv3d(before, after, (3, KERNEL, KERNEL), (1, 2, 2), 1), activation(active))
        ]
        self.layers = nn.Sequential(*layers, nn.Conv3d(chs[-1], 1, 1))

    def forward(self, video_MTCHW: Tensor) -> Tensor:
        return self.layers(video_MTCHW.transpose(1, 2)).flatten(1)


class SyncJudge(nn.Module):
    """Frames [M, n, C, H, W] and their sound [M, n, C, K] -> logits [M, 1]."""

    def __init__(
        self, shape: tuple[int, int, int], frames: int, chs: Listed[int], ear: AudioEncoder, *, code: int,
        head: Literal["concat", "distance", "cosine"], active: str, norm: Norm,
    ) -> None:  # fmt: skip
        """`shape` of a frame: C, H, W. `ear` makes `code` numbers of a window."""
        super().__init__()
        image, height, width = shape
        places = (height >> len(chs)) * (width >> len(chs)) * chs[-1]
        self.look = nn.Sequential(
            *convolutions(image * frames, chs, active, norm, last=False), nn.Flatten(), nn.Linear(places, code)
        )
        self.ear, self.gather = ear, nn.Linear(frames * code, code)
        self.kind = head
        self.head = _head(head, code, active)

    def forward(self, frames_MnCHW: Tensor, audio_MnCK: Tensor) -> Tensor:
        seen_MD, heard_MD = self.codes(frames_MnCHW, audio_MnCK)
        if self.kind == "cosine":
            return self.head(F.cosine_similarity(seen_MD, heard_MD, eps=1e-6)[:, None])
        both = (seen_MD - heard_MD).abs() if self.kind == "distance" else torch.cat([seen_MD, heard_MD], dim=1)
        return self.head(both)

    def codes(self, frames_MnCHW: Tensor, audio_MnCK: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen and what is heard, [M, code] each."""
        seen_MD = self.look(frames_MnCHW.flatten(1, 2))
        heard_MnD = self.ear(audio_MnCK.flatten(0, 1)).unflatten(0, audio_MnCK.shape[:2])
        return seen_MD, self.gather(heard_MnD.flatten(1))


def _head(kind: Literal["concat", "distance", "cosine"], code: int, active: str) -> nn.Module:
    match kind:
        case "concat":
            return nn.Sequential(nn.Linear(2 * code, code), activation(active), nn.Linear(code, 1))
        case "distance":
            return nn.Linear(code, 1)
        case "cosine":  # a scale and a shift, or the logit could not leave [-1, 1]
            return nn.Linear(1, 1)
