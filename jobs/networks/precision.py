"""In which number format each resolution computes.

float32 everywhere; or bfloat16 in every convolution; or float16 in the four highest resolutions, with bounded
activations (Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix). The running
RGB image, the mapping network, demodulation factors and the last layers of the discriminator stay in float32 always.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FP16_RESOLUTIONS = 4


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
                return Precision(self.name, self.resolution, torch.float32, self.channels_last)

    def prepare(self, x: Tensor) -> Tensor:
        """`x` in this number format and layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return x.to(dtype=self.dtype, memory_format=layout)
