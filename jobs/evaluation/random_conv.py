"""A convolutional network with random weights: a control that has learned nothing, and knows no photographs.

Where learned features are unfit (line drawings, heat maps, sprites), random ones at least carry no prejudice; where
they agree with learned ones, the learned ones are not needed.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (32, 64, 128)
KEY = 20260101


class RandomConv(nn.Module):
    """[N, 3, H, W] in [-1, 1] -> [N, 448]: mean and standard deviation of each channel after each stage."""

    def __init__(self) -> None:
        super().__init__()
        # Raw Philox counters are one fixed sequence in every version of numpy and torch; distributions drawn by
        # either library may change from one version to the next.
        bits = np.random.Philox(key=KEY)
        channels_in = 3
        for stage, channels in enumerate(CHANNELS):
            shape = (channels, channels_in, 3, 3)
            uniform = (bits.random_raw(int(np.prod(shape))) >> np.uint64(11)) * 2.0**-53 * 2 - 1
            gain = np.sqrt(3.0) * np.sqrt(2.0 / (channels_in * 9))  # variance 2/fan-in (He et al. 2015, Equation 10)
            weight = torch.from_numpy((uniform * gain).reshape(shape).astype(np.float32))
            self.register_buffer(f"weight_{stage}", weight)
            channels_in = channels

    def forward(self, x_NCHW: Tensor) -> Tensor:
        statistics = []
        for stage_NCHW in self.activations(x_NCHW):
            flat_NCP = stage_NCHW.flatten(2)
            statistics += [flat_NCP.mean(2), flat_NCP.std(2, correction=0)]
        return torch.cat(statistics, dim=1)

    def activations(self, x_NCHW: Tensor) -> list[Tensor]:
        """After every stage, before it is pooled."""
        stages = []
        for stage in range(len(CHANNELS)):
            x_NCHW = F.leaky_relu_(F.conv2d(x_NCHW, self.get_buffer(f"weight_{stage}"), padding=1), 0.2)
            stages.append(x_NCHW)
            x_NCHW = F.avg_pool2d(x_NCHW, 2)
        return stages
