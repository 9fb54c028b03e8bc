"""LPIPS, a learned perceptual distance (Zhang et al. 2018, Equation 1), version 0.1, and the networks behind it.

    d(x, y) = Σ_l mean over H, W of Σ_c w_lc (φ̂_lc(x) - φ̂_lc(y))²

with φ̂ the activations after each stage, scaled to unit length over channels. The calibrated w come with the package
`lpips`, whose files are read without importing it: it would import torchvision, which a processor's torch refuses.
"""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.errors import InternalError
from jobs.evaluation import convolutions
from jobs.evaluation.convolutions import Convolution
from jobs.evaluation.weights import backbone_of_lpips, sha256_of
from jobs.spec.evaluation import LpipsNetwork

Layer = tuple[int, int] | Literal["fire", "pool", "ceil_pool", "tap"]
"""A convolution as (stride, padding), squeezenet's fire module, a pool, or a tap: one φ of the sum above."""

HEAD_SHA256 = {
    "alex": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "vgg": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    "squeeze": "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
}


def _layers(network: LpipsNetwork) -> Sequence[Layer]:
    match network:
        case "alex":
            return ((4, 2), "tap", "pool", (1, 2), "tap", "pool", *((1, 1), "tap") * 3)
        case "vgg":
            blocks: list[Layer] = []
            for depth in (2, 2, 3, 3, 3):
                blocks += [*[(1, 1)] * depth, "tap", "pool"]
            return blocks[:-1]
        case "squeeze":
            pairs: tuple[Layer, ...] = ("ceil_pool", "fire", "fire", "tap")
            return ((2, 0), "tap", *pairs, *pairs, "ceil_pool", *("fire", "tap") * 4)
        case _:
            assert_never(network)


class Backbone(nn.Module):
    """A classifier's convolutions with their taps: image -> list of activations."""

    def __init__(self, layers: Sequence[Layer], weights: Iterable[Convolution], pool: tuple[int, int]) -> None:
        super().__init__()
        self.layers, self.pool = layers, pool
        for index, (weight, bias) in enumerate(weights):
            self.register_buffer(f"weight_{index}", weight)
            self.register_buffer(f"bias_{index}", bias)
        self.count = index + 1

    def forward(self, x_NCHW: Tensor) -> list[Tensor]:
        taps: list[Tensor] = []
        position = 0
        for layer in self.layers:
            match layer:
                case "tap":
                    taps.append(x_NCHW)
                case "pool" | "ceil_pool":
                    x_NCHW = F.max_pool2d(x_NCHW, *self.pool, ceil_mode=layer == "ceil_pool")
                case "fire":  # squeeze, then 1 x 1 and 3 x 3 side by side (Iandola et al. 2016, Figure 1)
                    x_NCHW = self._convolve(x_NCHW, position, 1, 0)
                    paths = [self._convolve(x_NCHW, position + 1, 1, 0), self._convolve(x_NCHW, position + 2, 1, 1)]
                    x_NCHW, position = torch.cat(paths, dim=1), position + 3
                case (stride, padding):
                    x_NCHW, position = self._convolve(x_NCHW, position, stride, padding), position + 1
        return taps

    def _convolve(self, x_NCHW: Tensor, index: int, stride: int, padding: int) -> Tensor:
        weight, bias = self.get_buffer(f"weight_{index}"), self.get_buffer(f"bias_{index}")
        return F.relu(F.conv2d(x_NCHW, weight, bias, stride, padding))


class Lpips(nn.Module):
    """Distances of pairs of images, [N, 3, H, W] in [-1, 1] twice -> [N]. Differentiable in both."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone, heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.backbone = backbone
        for index, head_C in enumerate(heads):
            self.register_buffer(f"head_{index}", head_C)
        # ImageNet's mean and deviation, for images in [-1, 1]
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])

    def forward(self, first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
        return self.between(self.activations(first_NCHW), self.activations(second_NCHW))

    def activations(self, image_NCHW: Tensor) -> list[Tensor]:
        """φ̂ of every tap, for images that take part in several pairs."""
        taps = self.backbone((image_NCHW - self.shift) / self.scale)
        return [tap / (tap.square().sum(1, keepdim=True).sqrt() + 1e-10) for tap in taps]

    def between(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Distances from activations, [N]."""
        distance_N = torch.zeros(len(first[0]), device=first[0].device)
        for index, (x_NCHW, y_NCHW) in enumerate(zip(first, second, strict=True)):
            head_C = self.get_buffer(f"head_{index}")
            distance_N = distance_N + ((x_NCHW - y_NCHW).square() * head_C[:, None, None]).sum(1).mean((1, 2))
        return distance_N


class LastTap(nn.Module):
    """[N, 3, H, W] in [-1, 1] -> the last activations of LPIPS's network, averaged over space, [N, C]."""

    def __init__(self, lpips: Lpips) -> None:
        super().__init__()
        self.lpips = lpips

    def forward(self, image_NCHW: Tensor) -> Tensor:
        last_NCHW = self.lpips.backbone((image_NCHW - self.lpips.shift) / self.lpips.scale)[-1]
        return last_NCHW.mean((2, 3))


def load(network: LpipsNetwork, weights_dir: Path | None, cache_dir: Path) -> Lpips:
    """LPIPS 0.1 on the processor. Raises InternalError if the weights of its network are absent or others."""
    weights = convolutions.load(backbone_of_lpips(network), weights_dir, cache_dir)
    backbone = Backbone(_layers(network), weights, pool=(2, 2) if network == "vgg" else (3, 2))
    return Lpips(backbone, _heads(network)).eval()


def _heads(network: LpipsNetwork) -> list[Tensor]:
    """The calibrated weights of each tap, [C] each."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or not spec.submodule_search_locations:
        raise InternalError("weights: the package lpips is not installed", hint="pip install --no-deps lpips==0.1.4")
    path = Path(spec.submodule_search_locations[0]) / "weights" / "v0.1" / f"{network}.pth"
    if (actual := sha256_of(path)) != HEAD_SHA256[network]:
        raise InternalError(f"weights: lpips/{path.name} has sha256 {actual[:12]}..., not the known one")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{index}.model.1.weight"].flatten() for index in range(len(state))]
