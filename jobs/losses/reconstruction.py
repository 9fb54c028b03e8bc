"""How far a picture is from the one that it should be. Pictures are [N, C, H, W] in [-1, 1]."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def l1(image_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
    """Mean absolute difference over everything."""
    return (image_NCHW - target_NCHW).abs().mean()


def premultiplied(image_NCHW: Tensor) -> Tensor:
    """RGBA with the colour weighted by alpha (-1 is transparent): what is not seen is the same whatever its colour."""
    colour, alpha = image_NCHW[:, :3], image_NCHW[:, 3:]
    return torch.cat([(colour + 1) * (alpha + 1) / 2 - 1, alpha], dim=1)


def stretched(image_NCHW: Tensor) -> Tensor:
    """Each image stretched to [-1, 1] by its own least and largest value; a flat image becomes -1 and not nan."""
    flat_NP = image_NCHW.flatten(1)
    least, most = (x[:, None, None, None] for x in flat_NP.aminmax(dim=1))
    return (image_NCHW - least) / (most - least).clamp(min=1e-3) * 2 - 1


def activation_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Σ_l mean over H, W of Σ_c (φ̂_lc(x) - φ̂_lc(y))², mean over images.

    LPIPS (Zhang et al. 2018, Equation 1) with every weight 1/layers: φ̂ is scaled to unit length over channels.
    """
    distance = torch.zeros((), device=first[0].device)
    for x_NCHW, y_NCHW in zip(first, second, strict=True):
        difference = _unit(x_NCHW) - _unit(y_NCHW)
        distance = distance + difference.square().sum(1).mean() / len(first)
    return distance


def _unit(x_NCHW: Tensor) -> Tensor:
    return x_NCHW * (x_NCHW.square().sum(1, keepdim=True) + 1e-8).rsqrt()


def classifier_kl(said_NK: Tensor, of_NK: Tensor) -> Tensor:
    """KL(p ‖ q) in nats, mean over images, of the logits of p and of q."""
    return F.kl_div(of_NK.log_softmax(1), said_NK.log_softmax(1), reduction="batchmean", log_target=True)
