"""A synthesis network and a discriminator that grow from 4x4 (Karras et al. 2018, 2019), conditioned on a drawing.

Level 0 is 4x4, level 1 is 8x8 ... While a level fades in, `alpha` is the share of its new layers. P is the number of
channels of the drawing so far: its parts, and all of them in one.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.networks.discriminator import minibatch_stddev
from jobs.networks.equalized import Conv, Dense, RectifiedConv, RectifiedDense
from jobs.spec.sketch import Discriminator as DiscriminatorSection
from jobs.spec.sketch import Encoder as EncoderSection
from jobs.spec.sketch import Generator as GeneratorSection
from jobs.spec.sketch import Latent
from jobs.spec.sketch_size import encoder_widths, style_inputs
from jobs.spec.stylegan2_size import feature_maps

Wiring = Literal["registered", "rgb_unregistered", "rgb_and_constant_unregistered"]


def pixel_norm(x_NCHW: Tensor) -> Tensor:
    """x / √(mean over channels of x²) at every pixel (Karras et al. 2018, section 4.2)."""
    return x_NCHW * (x_NCHW.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def halved(x_NCHW: Tensor) -> Tensor:
    """Averages of 2x2 pixels."""
    return F.avg_pool2d(x_NCHW, 2)


def doubled(x_NCHW: Tensor) -> Tensor:
    """Every pixel four times."""
    return F.interpolate(x_NCHW, scale_factor=2, mode="nearest")


def shrunk(x_NCHW: Tensor, side: int) -> Tensor:
    """Averages of square blocks, down to `side`."""
    return x_NCHW if x_NCHW.shape[2] == side else F.avg_pool2d(x_NCHW, x_NCHW.shape[2] // side)


def faded(x_NCHW: Tensor, alpha: float) -> Tensor:
    """A picture as a level that fades in sees it: α·x + (1-α)·up(down(x)), as published."""
    return x_NCHW if alpha >= 1 else alpha * x_NCHW + (1 - alpha) * doubled(halved(x_NCHW))


class Convolutions(nn.Module):
    """One or two of {3x3 convolution, leaky rectifier, pixel norm}: [N, in, S, S] -> [N, out, S, S]."""

    def __init__(self, inputs: int, outputs: int, count: int, *, normalised: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            RectifiedConv(inputs if first == 0 else outputs, outputs, 3) for first in range(count)
        )
        self.normalised = normalised

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            x = pixel_norm(x) if self.normalised else x
        return x


class ConditionEncoder(nn.Module):
    """The drawing so far [N, P, R, R] -> a map of features for each level, 4x4 first, and a code [N, size]."""

    def __init__(self, section: EncoderSection, resolution: int, inputs: int, code: int) -> None:
        super().__init__()
        self.widths = encoder_widths(section, resolution)[::-1]
        above = [*self.widths[1:], inputs]
        self.blocks = nn.ModuleList(
            Convolutions(wide, width, 1, normalised=section.pixel_norm)
            for wide, width in zip(above, self.widths, strict=True)
        )
        self.dense = Dense(self.widths[0] * 16, code) if code else None

    def forward(self, drawing_NPHW: Tensor) -> tuple[list[Tensor], Tensor | None]:
        maps: list[Tensor] = []
        x = drawing_NPHW
        for level, block in reversed(list(enumerate(self.blocks))):
            x = block(x)
            maps.insert(0, x)
            x = halved(x) if level else x
        return maps, None if self.dense is None else self.dense(x.flatten(1))


class StyleNetwork(nn.Module):
    """Code of the drawing, z, both or neither -> style [N, style]."""

    def __init__(self, section: Latent) -> None:
        super().__init__()
        self.source, self.style = section.source, section.style
        sizes = [style_inputs(section.source, section.size), *[section.style] * section.layers]
        pairs = pairwise(sizes) if section.source != "none" else ()
        self.layers = nn.ModuleList(RectifiedDense(inputs, outputs) for inputs, outputs in pairs)

    def forward(self, code_ND: Tensor | None, z_ND: Tensor) -> Tensor:
        match self.source:
            case "none":
                return z_ND.new_zeros(len(z_ND), self.style)
            case "z":
                x = z_ND
            case "encoder":
                assert code_ND is not None
                x = code_ND
            case _:
                assert code_ND is not None
                x = torch.cat([code_ND, z_ND], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x


class Noise(nn.Module):
    """Adds noise, one weight a map, from 0."""

    def __init__(self, maps: int, kind: Literal["shared", "per_sample"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(maps, 1, 1))
        self.shared = kind == "shared"

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(1 if self.shared else len(x), 1, *x.shape[2:], device=x.device)
        return torch.addcmul(x, noise, self.weight)


class StyledNorm(nn.Module):
    """Instance norm, then a scale and a bias for each map from the style (Huang and Belongie 2017, Equation 8)."""

    def __init__(self, maps: int, style: int, epsilon: float) -> None:
        super().__init__()
        self.scale, self.bias = Dense(style, maps, bias=1.0), Dense(style, maps)
        self.epsilon = epsilon

    def forward(self, x: Tensor, style_ND: Tensor) -> Tensor:
        x = x - x.mean(dim=(2, 3), keepdim=True)
        variance = x.square().mean(dim=(2, 3), keepdim=True)
        scale = self.scale(style_ND)[:, :, None, None] / (variance + self.epsilon).sqrt()
        return torch.addcmul(self.bias(style_ND)[:, :, None, None], x, scale)


class StyledHalf(nn.Module):
    """{convolutions, noise, instance norm with style}; without convolutions on the constant."""

    def __init__(self, inputs: int, outputs: int, style: int, section: GeneratorSection) -> None:
        super().__init__()
        self.convolutions = (
            Convolutions(inputs, outputs, section.convolutions, normalised=section.pixel_norm) if inputs else None
        )
        self.noise = Noise(outputs, section.noise) if section.noise != "off" else None
        self.norm = StyledNorm(outputs, style, section.norm_epsilon)

    def forward(self, x: Tensor, style_ND: Tensor) -> Tensor:
        x = x if self.convolutions is None else self.convolutions(x)
        x = x if self.noise is None else self.noise(x)
        return self.norm(x, style_ND)


class SynthesisBlock(nn.Module):
    """[N, in, S, S] -> [N, out, 2S, 2S]; the first block (`inputs` 0) takes the learned constant as it is."""

    def __init__(self, inputs: int, outputs: int, style: int, section: GeneratorSection) -> None:
        super().__init__()
        self.upsampling, self.begins = section.upsampling, inputs == 0
        self.up = (
            nn.Parameter(torch.randn(inputs, inputs, 2, 2)) if inputs and self.upsampling == "transposed" else None
        )
        self.first = StyledHalf(inputs, outputs, style, section)
        self.second = StyledHalf(outputs, outputs, style, section)

    def forward(self, x: Tensor, style_ND: Tensor) -> Tensor:
        x = x if self.begins else self._doubled(x)
        return self.second(self.first(x, style_ND), style_ND)

    def _doubled(self, x: Tensor) -> Tensor:
        match self.upsampling:
            case "nearest":
                return doubled(x)
            case "bilinear":
                return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            case "transposed":
                assert self.up is not None
                return F.conv_transpose2d(x, self.up / len(self.up) ** 0.5, stride=2)


class GrowingSynthesis(nn.Module):
    """Style [N, style] and maps of the drawing so far -> ink [N, 1, S, S], about [0, 1], at any level."""

    constant: Tensor

    def __init__(
        self, section: GeneratorSection, resolution: int, start: int, style: int, maps: list[int], wiring: Wiring
    ) -> None:
        super().__init__()
        widths = [feature_maps(4 << level, section.channels_base, section.channels_max) for level in range(len(maps))]
        constant = torch.randn(widths[0], 4, 4) if section.constant == "random" else torch.ones(widths[0], 4, 4)
        bias = torch.ones(widths[0], 1, 1)
        if wiring == "rgb_and_constant_unregistered":
            self.constant, self.constant_bias = (x.requires_grad_() for x in (constant, bias))
        else:
            self.constant, self.constant_bias = nn.Parameter(constant), nn.Parameter(bias)
        below = [0, *(width + extra for width, extra in zip(widths[:-1], maps[:-1], strict=True))]
        self.blocks = nn.ModuleList(
            SynthesisBlock(inputs, width, style, section) for inputs, width in zip(below, widths, strict=True)
        )
        self.skip, self.start = section.architecture == "skip", 0 if section.architecture == "skip" else start
        layers = [Conv(width + extra, 1, 1) for width, extra in zip(widths, maps, strict=True)][self.start :]
        self.to_ink = nn.ModuleList(layers if wiring == "registered" else layers[:1])
        self.plain_to_ink = [] if wiring == "registered" else layers[1:]
        """In a plain list: they compute, but no `parameters()` names them, so no optimizer ever moves them."""

    def forward(self, style_ND: Tensor, maps: list[Tensor], level: int, alpha: float) -> Tensor:
        x = (self.constant + self.constant_bias).to(style_ND.device).expand(len(style_ND), -1, -1, -1)
        ink: Tensor | None = None
        for at, block in enumerate(self.blocks[: level + 1]):
            x = block(x, style_ND)
            x = torch.cat([x, maps[at]], dim=1) if maps else x
            if self.skip:
                shown = self._ink(x, at)
                ink = shown if ink is None else doubled(ink) + shown
            elif at == level - 1 and alpha < 1:
                ink = self._ink(x, at)
        if self.skip:
            assert ink is not None
            return ink
        newest = self._ink(x, level)
        return newest if ink is None else alpha * newest + (1 - alpha) * doubled(ink)

    def _ink(self, x: Tensor, level: int) -> Tensor:
        number = level - self.start
        if number < len(self.to_ink):
            return self.to_ink[number](x)
        return self.plain_to_ink[number - len(self.to_ink)].to(x.device)(x)


class GrowingGenerator(nn.Module):
    """The drawing so far [N, P, R, R] and z [N, size] -> the ink of its next part, [N, 1, S, S], at any level.

    It remembers at which level, and how far faded in, it was last trained.
    """

    level: Tensor
    alpha: Tensor

    def __init__(
        self,
        sections: tuple[EncoderSection, Latent, GeneratorSection],
        resolution: int,
        inputs: int,
        start: int,
        wiring: Wiring,
    ) -> None:
        super().__init__()
        encoder, latent, synthesis = sections
        self.latent, self.concatenate = latent.size, encoder.concatenate
        code = latent.size if latent.source in ("encoder", "encoder_and_z") else 0
        self.encoder = ConditionEncoder(encoder, resolution, inputs, code) if code or encoder.concatenate else None
        self.style = StyleNetwork(latent)
        levels = resolution.bit_length() - 2
        maps = self.encoder.widths if self.encoder is not None and encoder.concatenate else [0] * levels
        self.synthesis = GrowingSynthesis(synthesis, resolution, start, latent.style, maps, wiring)
        self.register_buffer("level", torch.tensor(start))
        self.register_buffer("alpha", torch.tensor(1.0, dtype=torch.float64))

    def forward(self, drawing_NPHW: Tensor, z_ND: Tensor, level: int, alpha: float) -> Tensor:
        maps, code = ([], None) if self.encoder is None else self.encoder(drawing_NPHW)
        return self.synthesis(self.style(code, z_ND), maps if self.concatenate else [], level, alpha)


class GrowingDiscriminator(nn.Module):
    """Drawing with its new part [N, channels, S, S] -> logit [N, 1] at any level; larger means more real."""

    def __init__(
        self, section: DiscriminatorSection, resolution: int, channels: int, start: int, wiring: Wiring
    ) -> None:
        super().__init__()
        levels = resolution.bit_length() - 2
        widths = [feature_maps(4 << level, section.channels_base, section.channels_max) for level in range(levels)]
        self.start, self.stddev_group = start, section.stddev_group
        layers = [RectifiedConv(channels, width, 1) for width in widths[start:]]
        self.from_ink = nn.ModuleList(layers if wiring == "registered" else [])
        self.plain_from_ink = [] if wiring == "registered" else layers
        self.blocks = nn.ModuleList(
            Convolutions(wide, width, section.convolutions, normalised=section.pixel_norm)
            for width, wide in pairwise(widths)
        )
        self.last = Convolutions(widths[0] + 1, widths[0], 1, normalised=False)
        sizes = [widths[0] * 16, *[section.dense] * (section.dense_layers - 1)]
        self.dense = nn.ModuleList(RectifiedDense(inputs, section.dense) for inputs in sizes[:-1])
        self.logit = Dense(sizes[-1], 1)

    def forward(self, image_NCHW: Tensor, level: int, alpha: float, *, sets: int = 1) -> Tensor:
        """`sets`: so many batches, one after the other, each with statistics of its own."""
        x = self._features(image_NCHW, level)
        for at in range(level, 0, -1):
            x = halved(self.blocks[at - 1](x))
            if at == level and alpha < 1:
                x = alpha * x + (1 - alpha) * self._features(halved(image_NCHW), level - 1)
        count = len(x) // sets
        group = next(size for size in range(min(self.stddev_group, count), 0, -1) if count % size == 0)
        x = self.last(minibatch_stddev(x, group, sets)).flatten(1)
        for dense in self.dense:
            x = dense(x)
        return self.logit(x)

    def _features(self, image_NCHW: Tensor, level: int) -> Tensor:
        layer = [*self.from_ink, *self.plain_from_ink][level - self.start]
        return layer.to(image_NCHW.device)(image_NCHW)


class PartSelector(nn.Module):
    """The drawing so far [N, P, R, R] -> logits over the next part, [N, parts + 1]; the last: none."""

    def __init__(self, channels: int, most: int, resolution: int, inputs: int, parts: int) -> None:
        super().__init__()
        encoder = EncoderSection(channels=channels, channels_max=most, pixel_norm=False)
        self.encoder = ConditionEncoder(encoder, resolution, inputs, 0)
        self.logit = Dense(self.encoder.widths[0] * 16, parts + 1)

    def forward(self, drawing_NPHW: Tensor) -> Tensor:
        maps, _ = self.encoder(drawing_NPHW)
        return self.logit(maps[0].flatten(1))
