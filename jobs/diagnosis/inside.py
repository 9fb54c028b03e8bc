"""Looks inside a generator made of layers while it translates: what does each normaliser read, and does it matter?"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor, nn

from jobs.diagnosis.translations import TOP_SHARE, LayerPeaks
from jobs.networks.layer_list import Block, LayerNetwork

REACH_PIXELS = 15
"""So far around a cut-down pixel a change of the result is none of its neighbourhood's business."""
CEILING = 0.99


def readings(network: LayerNetwork) -> dict[str, nn.Module]:
    """What makes the maps that normalisers read, or would read, in order: every convolution but the last, by name."""
    found: dict[str, nn.Module] = {}
    for index, (layer, label) in enumerate(zip(network.layers, network.labels, strict=True)):
        convs = [block.conv for block in layer.modules() if isinstance(block, Block)]
        short = label.split("(")[0]
        for place, conv in enumerate(convs if index < len(network.layers) - 1 else [], 1):
            found[short if len(convs) == 1 else f"{short}, convolution {place} of {len(convs)}"] = conv
    return found


@torch.no_grad()
def peaks(network: LayerNetwork, translate: Callable[[], Tensor]) -> tuple[Tensor, list[LayerPeaks]]:
    """What `translate`, which runs `network`, gives, and the norms over channels of what its normalisers read."""
    norms: dict[str, list[Tensor]] = {}

    def see(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            norms.setdefault(name, []).append(torch.linalg.vector_norm(output.float(), dim=1).cpu())

        return hook

    with ExitStack() as stack:
        for name, conv in readings(network).items():
            stack.enter_context(_hooked(conv, see(name)))
        made = translate()
    return made, [LayerPeaks(name, torch.cat(parts).numpy()) for name, parts in norms.items()]


@torch.no_grad()
def smuggled(
    network: LayerNetwork, layer: LayerPeaks, translate: Callable[[], Tensor], made_NCHW: Tensor
) -> float | None:
    """Mean change of the result away from the strongest pixels of `layer` when these are cut down, over its deviation.

    None where the neighbourhoods of those pixels are everything there is.
    """
    with _hooked(readings(network)[layer.label], _cut_down):
        without_NCHW = translate()
    change_NHW = (without_NCHW - made_NCHW).abs().mean(1).cpu().numpy()
    outside_NHW = ~_around(_strongest(torch.from_numpy(layer.norm_NHW)).numpy(), made_NCHW.shape[2])
    spread = float(made_NCHW.std())
    return float(change_NHW[outside_NHW].mean()) / max(spread, 1e-12) if outside_NHW.any() else None


def _cut_down(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """The strongest pixels shortened to the 99th percentile of their map's norms."""
    norm_NHW = torch.linalg.vector_norm(output.float(), dim=1)
    ceiling_N11 = torch.quantile(norm_NHW.flatten(1), CEILING, dim=1)[:, None, None]
    factor_NHW = torch.where(_strongest(norm_NHW), ceiling_N11 / norm_NHW.clamp(min=1e-12), 1.0)
    return output * factor_NHW[:, None].to(output.dtype)


def _strongest(norm_NHW: Tensor) -> Tensor:
    """The thousandth of the pixels with the largest norms, one at least."""
    count = max(int(norm_NHW[0].numel() * TOP_SHARE), 1)
    least_N1 = norm_NHW.flatten(1).topk(count, dim=1).values[:, -1:]
    return norm_NHW >= least_N1[:, :, None]


def _around(hot_NHW: np.ndarray, side: int) -> np.ndarray:
    """The neighbourhoods of hot pixels, at the size of the pictures."""
    scale = side // hot_NHW.shape[1] if hot_NHW.shape[1] <= side else 1
    step = max(hot_NHW.shape[1] // side, 1)
    large = hot_NHW.repeat(scale, 1).repeat(scale, 2)[:, ::step, ::step]
    reach = min(REACH_PIXELS, side // 4)
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    return np.stack([binary_dilation(mask, disc) for mask in large])


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
