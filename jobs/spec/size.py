"""How large the networks of a spec are: parameters and memory, in closed form, without building them.

The parameter counts are exact (tests hold them against the built networks). Memory is an estimate: weights, gradients,
Adam's two moments and the average, and the activations that a backward pass keeps.
"""

import math
from dataclasses import dataclass

from jobs.spec.data import CHANNEL_COUNT
from jobs.spec.job import Job
from jobs.spec.stylegan2 import Architecture, StyleGAN2

_KEPT_PER_CONVOLUTION = 4
"""Maps of its own size that a convolution keeps for the backward pass: input, product, noise sum, output."""

LABEL_LAYERS = 8
"""Dense layers that map a label for the discriminator."""


@dataclass(frozen=True)
class Layers:
    """What a network weighs."""

    parameters: int
    activations_per_image: int
    """Numbers kept for the backward pass."""


@dataclass(frozen=True)
class Size:
    """What a job weighs."""

    parameters: dict[str, int]
    memory_bytes: int


def size(job: Job, classes: int = 0) -> Size:
    """Parameters by network, and the memory of a training step, of a resolved job on data of `classes` classes."""
    recipe = job.recipe
    generator, discriminator = generator_layers(recipe, classes), discriminator_layers(recipe, classes)
    micro_batch = job.training.micro_batch
    assert micro_batch is not None, "a resolved spec"
    # G: weight, gradient, two moments, average; D: all but the average.
    states_bytes = 4 * (5 * generator.parameters + 4 * discriminator.parameters)
    activations_bytes = 4 * micro_batch * (generator.activations_per_image + 2 * discriminator.activations_per_image)
    return Size(
        {"G": generator.parameters, "D": discriminator.parameters},
        states_bytes + activations_bytes,
    )


def generator_layers(recipe: StyleGAN2, classes: int) -> Layers:
    """The mapping and synthesis networks."""
    shape = recipe.generator
    assert shape.channels_base is not None and shape.mapping.layers is not None, "a resolved spec"
    rgb, style = CHANNEL_COUNT[recipe.data.channels], shape.style
    parameters = _mapping(shape.latent, style, shape.mapping.layers, classes)
    activations = 0
    before = 0
    for resolution in _resolutions(recipe.data.resolution):
        maps = feature_maps(resolution, shape.channels_base, shape.channels_max)
        inputs = [maps] if not before else [before, maps]
        parameters += sum(_styled(width, maps, style, noise=shape.noise == "random") for width in inputs)
        parameters += 0 if before else maps * resolution**2
        if shape.architecture == "skip" or resolution == recipe.data.resolution:
            parameters += _dense(style, maps) + maps * rgb + rgb
        if shape.architecture == "resnet" and before:
            parameters += before * maps
        activations += _KEPT_PER_CONVOLUTION * len(inputs) * maps * resolution**2
        before = maps
    return Layers(parameters, activations)


def discriminator_layers(recipe: StyleGAN2, classes: int) -> Layers:
    """The discriminator."""
    shape = recipe.discriminator
    assert shape.channels_base is not None and shape.architecture is not None, "a resolved spec"
    rgb, top = CHANNEL_COUNT[recipe.data.channels], recipe.data.resolution
    parameters = activations = 0
    for resolution in reversed(_resolutions(top)[1:]):
        inputs = feature_maps(resolution, shape.channels_base, shape.channels_max)
        outputs = feature_maps(resolution // 2, shape.channels_base, shape.channels_max)
        parameters += _from_rgb(shape.architecture, resolution, top, rgb, inputs)
        parameters += inputs * inputs * 9 + inputs + inputs * outputs * 9 + outputs
        parameters += inputs * outputs if shape.architecture == "resnet" else 0
        activations += _KEPT_PER_CONVOLUTION * (inputs * resolution**2 + outputs * (resolution // 2) ** 2)
    last = feature_maps(4, shape.channels_base, shape.channels_max)
    parameters += _from_rgb(shape.architecture, 4, top, rgb, last)
    parameters += (last + 1) * last * 9 + last + _dense(last * 16, last)
    parameters += _dense(last, last) + _mapping(0, last, LABEL_LAYERS, classes) if classes else _dense(last, 1)
    return Layers(parameters, activations + _KEPT_PER_CONVOLUTION * last * 16)


def feature_maps(resolution: int, base: int, most: int) -> int:
    """Channels of the layers at `resolution`."""
    return max(min(base // resolution, most), 1)


def _resolutions(top: int) -> list[int]:
    return [2**power for power in range(2, int(math.log2(top)) + 1)]


def _dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _styled(inputs: int, outputs: int, style: int, *, noise: bool) -> int:
    return _dense(style, inputs) + inputs * outputs * 9 + outputs + int(noise)


def _from_rgb(architecture: Architecture, resolution: int, top: int, rgb: int, outputs: int) -> int:
    shown = resolution == top or architecture == "skip"
    return rgb * outputs + outputs if shown else 0


def _mapping(latent: int, style: int, layers: int, classes: int) -> int:
    embedding = _dense(classes, style) if classes else 0
    first = latent + (style if classes else 0)
    return embedding + _dense(first, style) + (layers - 1) * _dense(style, style)
