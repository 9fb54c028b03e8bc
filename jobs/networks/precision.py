"""In which number format each resolution computes.

float32 everywhere; or bfloat16 in every convolution; or float16 in the four highest resolutions, with bounded
activations (Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix). The running
RGB image, the mapping network, demodulation factors and the last layers of the discriminator stay in float32 always.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.networks.winograd import takes_tiles

FP16_RESOLUTIONS = 4
NARROW_MAPS = 64
"""Up to so many maps, float32 on a CPU is faster with channels last: convolutions there and back take 0.75 to
0.97 of the time (8 to 64 maps, 16 to 64 pixels, one core with AVX2), with 512 maps 1.1 to 1.5 times as long,
unless it goes by tiles (jobs/networks/winograd.py)."""


@dataclass(frozen=True)
class Precision:
    """What one resolution computes in, and in which memory layout."""

    name: str
    resolution: int
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    def at(self, size: int) -> "Precision":
        """The precision of the layers at resolution `size`."""
        match self.name:
            case "bf16":
                return Precision(self.name, self.resolution, torch.bfloat16, channels_last=True)
            case "fp16" if size * 2**FP16_RESOLUTIONS > self.resolution:
                return Precision(self.name, self.resolution, torch.float16, channels_last=True)
            case _:
                return Precision(self.name, self.resolution, torch.float32)

    def prepare(self, x: Tensor) -> Tensor:
        """`x` [N, C, H, W] in this number format and layout."""
        exact_on_cpu = self.dtype == torch.float32 and x.device.type == "cpu"
        faster = exact_on_cpu and (x.shape[1] <= NARROW_MAPS or takes_tiles(x))
        layout = torch.channels_last if self.channels_last or faster else torch.contiguous_format
        return x.to(dtype=self.dtype, memory_format=layout)
