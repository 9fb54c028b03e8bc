"""The networks of StylEx: a StyleGAN2 generator whose w may end in what a classifier said, encoder, discriminator."""

from typing import Any

import torch
from torch import Tensor, nn

from jobs.networks.discriminator import Discriminator
from jobs.networks.encoder import Encoder
from jobs.networks.equalized import Dense
from jobs.networks.generator import keep_as_drawn
from jobs.networks.mapping import MappingNetwork
from jobs.networks.precision import Precision
from jobs.networks.synthesis import Synthesis
from jobs.spec.data import CHANNEL_COUNT
from jobs.spec.stylex import Conditioning, StylEx

ANSWERS = 256
"""A classifier's answers on real images that a generator keeps, so that it can be drawn from without its data."""


class ToldGenerator(nn.Module):
    """z [N, latent] -> `mapping` -> `told` -> w [N, D] -> `every_layer` -> `synthesis` -> image.

    There is no mapping where nothing is ever made from latents.
    """

    answers_MK: Tensor

    def __init__(self, section: StylEx, classes: int, precision: Precision) -> None:
        super().__init__()
        shape, self.told_of = section.generator, section.conditioning
        assert shape.mapping.layers is not None, "a resolved spec"
        style = shape.style + (0 if self.told_of.source == "none" else classes)
        mapped = style if self.told_of.inject == "encoder" else shape.style
        self.mapping = None
        if section.draws:
            layers, normalize = shape.mapping.layers, shape.mapping.normalize_z
            self.mapping = MappingNetwork(
                shape.latent, mapped, layers, shape.mapping.lr_multiplier, normalize=normalize
            )
            if shape.mapping.frozen:
                keep_as_drawn(self.mapping)
        resolution, channels = section.data.resolution, CHANNEL_COUNT[section.data.channels]
        self.synthesis = Synthesis(shape.model_copy(update={"style": style}), resolution, channels, precision)
        self.register_buffer("answers_MK", torch.zeros(ANSWERS, classes))

    def told(self, w_ND: Tensor, said_NK: Tensor, *, drawn: bool = False) -> Tensor:
        """w with the classifier's logits or probabilities appended; `drawn`: it comes from the mapping."""
        told = told_numbers(self.told_of, said_NK, drawn=drawn)
        return w_ND if told is None else torch.cat([w_ND, told], dim=1)

    def every_layer(self, w_ND: Tensor) -> Tensor:
        """[N, D] -> [N, L, D]"""
        return w_ND[:, None].expand(-1, self.synthesis.styles, -1)


def told_numbers(section: Conditioning, said_NK: Tensor, *, drawn: bool) -> Tensor | None:
    """What of the classifier's logits reaches w."""
    if section.source == "none" or (drawn and section.inject == "encoder"):
        return None
    return said_NK.softmax(1) if section.source == "softmax" else said_NK


def encoder_of(section: StylEx, precision: Precision) -> Encoder:
    """The encoder; it makes w but for what the classifier said."""
    shape = section.encoder
    assert shape.channels_base is not None, "a resolved spec"
    return Encoder(
        section.data.resolution,
        CHANNEL_COUNT[section.data.channels],
        style=section.generator.style,
        base=shape.channels_base,
        most=shape.channels_max,
        architecture=shape.architecture,
        precision=precision,
    )


class WeightedHeads(Discriminator):
    """image, probabilities of the classes [N, K] -> logit [N, 1]: one logit a class, Σ_k p_k h_k."""

    def __init__(self, heads: int, **shape: Any) -> None:
        super().__init__(**shape)
        self.logit = Dense(self.last, heads)

    def forward(
        self, image_NCHW: Tensor, label_N: Tensor | None = None, *, full_precision: bool = False, sets: int = 1
    ) -> Tensor:
        assert label_N is not None, "weighted heads need their weights"
        logit_NK = super().forward(image_NCHW, full_precision=full_precision, sets=sets)
        return (logit_NK * label_N).sum(dim=1, keepdim=True)


def discriminator_of(section: StylEx, classes: int, precision: Precision) -> Discriminator:
    """The discriminator; its label is the classifier's probabilities where it is told of them."""
    shape, told = section.discriminator, section.conditioning.discriminator
    assert shape.channels_base is not None, "a resolved spec"
    size: dict[str, Any] = {
        "resolution": section.data.resolution,
        "channels": CHANNEL_COUNT[section.data.channels],
        "base": shape.channels_base,
        "most": shape.channels_max,
        "architecture": shape.architecture,
        "stddev_group": shape.stddev_group,
        "precision": precision,
    }
    if told == "weighted_heads":
        return WeightedHeads(classes, **size)
    return Discriminator(**size, classes=classes if told == "projection" else 0)
