"""From pictures to feature spaces: one resize, one range and one network a space, the same for data and samples.

Everything here takes uint8 images: what a generator makes is quantised first, because what a person opens is.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.errors import Diverged, InternalError
from jobs.evaluation import efficientnet_lite, random_conv
from jobs.spec.evaluation import FeatureSpace

PIXELS_SIDE = 32
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Extractor:
    """Takes images to one feature space."""

    space: FeatureSpace
    resize: str
    version: int
    """Raised when the same image gets other features: cached features of other versions are never read."""
    network: Network
    device: torch.device

    def __call__(self, image_NCHW: Tensor) -> Tensor:
        """uint8 [N, C, H, W] on any device -> float32 [N, D] on the processor."""
        # Features are stored and compared, so they must not depend on the card: no TF32.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            parts = image_NCHW.split(8) if self.device.type == "cpu" else (image_NCHW,)  # 8 stay in a CPU's cache
            return torch.cat([self.network(part.to(self.device)).float().cpu() for part in parts])


def quantise(image_NCHW: Tensor) -> Tensor:
    """[-1, 1] -> uint8, as pictures are written. Raises Diverged if a pixel is not a finite number."""
    if not bool(torch.isfinite(image_NCHW).all()):
        raise Diverged("samples: the generator made pixels that are not finite numbers; they cannot be measured")
    return ((image_NCHW.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_rgb(image_NCHW: Tensor) -> Tensor:
    """uint8 grey, RGB or RGBA -> float32 RGB in [0, 255]. Grey becomes three equal channels; alpha lies over white."""
    image_NCHW = image_NCHW.float()
    match image_NCHW.shape[1]:
        case 1:
            return image_NCHW.expand(-1, 3, -1, -1)
        case 3:
            return image_NCHW
        case 4:
            alpha_N1HW = image_NCHW[:, 3:] / 255
            return image_NCHW[:, :3] * alpha_N1HW + 255 * (1 - alpha_N1HW)
        case channels:
            raise InternalError(f"images have {channels} channels; features are known for 1 (grey), 3 (RGB), 4 (RGBA)")


def bicubic(image_NCHW: Tensor, side: int) -> Tensor:
    """Bicubic with antialiasing to `side`², clipped: the "clean" resize of Parmar et al. 2022, not re-quantised."""
    return F.interpolate(image_NCHW, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp_(0, 255)


def _pixels(image_NCHW: Tensor) -> Tensor:
    """uint8 -> [N, C·h·w] in [0, 1], each side averaged down to at most `PIXELS_SIDE`."""
    size = tuple(min(side, PIXELS_SIDE) for side in image_NCHW.shape[2:])
    return (F.interpolate(image_NCHW.float(), size, mode="area") / 255).flatten(1)


def _random_conv(device: torch.device) -> Network:
    network = _placed(random_conv.RandomConv(), device)
    return lambda image_NCHW: network(_channels_last(bicubic(to_rgb(image_NCHW), 64) / 127.5 - 1))


def _efficientnet_lite0(device: torch.device) -> Network:
    network = _placed(efficientnet_lite.load(), device)
    return lambda image_NCHW: network(_channels_last((bicubic(to_rgb(image_NCHW), 224) - 127) / 128))


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    return network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _channels_last(image_NCHW: Tensor) -> Tensor:
    return image_NCHW.contiguous(memory_format=torch.channels_last)


def open_space(space: FeatureSpace, device: torch.device) -> Extractor:
    """The extractor of a feature space. Raises InternalError if its weights are absent or are not the known ones."""
    match space:
        case "pixels":
            return Extractor(space, f"area to at most {PIXELS_SIDE}", 1, _pixels, device)
        case "random_conv":
            return Extractor(space, "bicubic antialias to 64", 1, _random_conv(device), device)
        case "efficientnet_lite0":
            return Extractor(space, "bicubic antialias to 224", 1, _efficientnet_lite0(device), device)
        case _:
            assert_never(space)


def extract(batches: Iterable[Tensor], extractors: Iterable[Extractor]) -> dict[FeatureSpace, Tensor]:
    """Every space's features of the same images; each batch (uint8 NCHW) is made once and read by all extractors."""
    extractors = list(extractors)
    parts: dict[FeatureSpace, list[Tensor]] = {extractor.space: [] for extractor in extractors}
    for image_NCHW in batches:
        for extractor in extractors:
            parts[extractor.space].append(extractor(image_NCHW))
    return {space: torch.cat(tensors) for space, tensors in parts.items()}
