"""Ranges, channels and sizes of images on their way to a feature space."""

import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.errors import Diverged, InternalError


def quantise(image_NCHW: Tensor) -> Tensor:
    """[-1, 1] -> uint8, as pictures are written. Raises Diverged if a pixel is not a finite number."""
    if not bool(torch.isfinite(image_NCHW).all()):
        raise Diverged("samples: the generator made pixels that are not finite numbers; they cannot be measured")
    return ((image_NCHW.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_rgb(image_NCHW: Tensor) -> Tensor:
    """Grey, RGB or RGBA in [0, 255] -> float32 RGB. Grey becomes three equal channels; alpha lies over white."""
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
    return F.interpolate(image_NCHW, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255)


def area(image_NCHW: Tensor, longest: int) -> Tensor:
    """Each side averaged down to at most `longest`."""
    size = tuple(min(side, longest) for side in image_NCHW.shape[2:])
    return image_NCHW if size == tuple(image_NCHW.shape[2:]) else F.interpolate(image_NCHW, size, mode="area")


def for_lpips(rgb_NCHW: Tensor) -> Tensor:
    """RGB in [0, 255] -> [-1, 1] with sides between 64 and 256: averaged down, or bilinear up. Differentiable."""
    rgb_NCHW = area(rgb_NCHW, 256)
    shortest = min(rgb_NCHW.shape[2:])
    if shortest < 64:
        size = tuple(round(side * 64 / shortest) for side in rgb_NCHW.shape[2:])
        rgb_NCHW = F.interpolate(rgb_NCHW, size, mode="bilinear", align_corners=False)
    return rgb_NCHW / 127.5 - 1


LPIPS_RESIZE = "area to at most 256, bilinear to at least 64"
