"""The encoder: an image to the style it would be made from."""

from torch import Tensor

from jobs.networks.discriminator import BlockStack
from jobs.networks.equalized import Dense, RectifiedConv
from jobs.networks.precision import Precision
from jobs.spec.stylegan2 import Architecture


class Encoder(BlockStack):
    """image [N, C, R, R] in [-1, 1] -> w [N, style]: a discriminator's blocks, but no statistic of the batch."""

    def __init__(
        self,
        resolution: int,
        channels: int,
        *,
        style: int,
        base: int,
        most: int,
        architecture: Architecture,
        precision: Precision,
    ) -> None:
        super().__init__(resolution, channels, base=base, most=most, architecture=architecture, precision=precision)
        self.last_conv = RectifiedConv(self.last, self.last, 3)
        self.dense = Dense(self.last * 16, style)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        x = self.last_conv(self.features(image_NCHW))
        return self.dense(x.flatten(1))
