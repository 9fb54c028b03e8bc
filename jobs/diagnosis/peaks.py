"""Watches a network's feature maps while it draws: how far does the strongest pixel of each layer stand out?"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jobs.diagnosis.inputs import FeatureMaps

LEAST_SIDE, LEAST_CHANNELS = 16, 4
"""Smaller maps have no pixels to spare, thinner ones no norm worth the name."""
REFERENCE = 0.99
"""Quantile of a map that its strongest pixel is compared with."""


class Peaks:
    """What was seen of each layer, by its path."""

    def __init__(self) -> None:
        self._peaks: dict[str, list[Tensor]] = {}
        self._maps: dict[str, Tensor] = {}

    def see(self, path: str, x_NCHW: Tensor) -> None:
        """Notes the norms over channels of a layer's output."""
        norm_NHW = torch.linalg.vector_norm(x_NCHW.detach().float(), dim=1)
        flat_NP = norm_NHW.flatten(1)
        rank = max(int(flat_NP.shape[1] * (1 - REFERENCE)), 1) + 1
        top_NK = flat_NP.topk(rank, dim=1).values
        self._peaks.setdefault(path, []).append((top_NK[:, 0] / top_NK[:, -1].clamp(min=1e-12)).cpu())
        share_HW = (norm_NHW / norm_NHW.amax((1, 2), keepdim=True).clamp(min=1e-12)).mean(0).cpu()
        self._maps[path] = share_HW

    def read(self) -> FeatureMaps | None:
        """Everything that was seen; None for a network without such layers."""
        if not self._peaks:
            return None
        paths = tuple(self._peaks)
        peak_LM = torch.stack([torch.cat(self._peaks[path]) for path in paths]).double().numpy()
        worst = paths[int(np.median(peak_LM, axis=1).argmax())]
        return FeatureMaps(peak_LM=peak_LM, paths_L=paths, map_HW=self._maps[worst].double().numpy())


@contextmanager
def watching(network: nn.Module) -> Iterator[Peaks]:
    """Sees every feature map that `network` makes meanwhile; leaves nothing behind."""
    peaks = Peaks()

    def hook(path: str) -> Any:
        def see(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if _is_map(output):
                peaks.see(path, output)

        return see

    handles = [module.register_forward_hook(hook(path)) for path, module in network.named_modules() if path]
    try:
        yield peaks
    finally:
        for handle in handles:
            handle.remove()


def _is_map(output: Any) -> bool:
    return (
        isinstance(output, Tensor)
        and output.dim() == 4
        and output.shape[1] >= LEAST_CHANNELS
        and min(output.shape[2:]) >= LEAST_SIDE
    )
