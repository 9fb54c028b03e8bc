"""How large the networks of a sketch recipe are, in closed form, without building them."""

from itertools import pairwise

from jobs.spec.growth import NoGrowth, level_of
from jobs.spec.layers import Layers, Phase, Size
from jobs.spec.sketch import Encoder, Sketch
from jobs.spec.stylegan2_size import feature_maps

_KEPT_PER_HALF = 4.4
"""Maps of its own size that half a block of the generator keeps: product, rectified, normalised, noisy, styled ..."""
_KEPT_BY_ENCODER, _KEPT_BY_JUDGE = 5.1, 2.45
"""Likewise a convolution of the encoder, joined to the generator's maps; one of the discriminator."""
_PENALTY = 1.75
"""What a penalty keeps that differentiates twice, in passes through the network."""
_UNREGISTERED = "layers in plain lists are in no optimizer, and not counted"
BEGINNINGS = 64
"""Drawings so far that travel with the generator, so that it can be sampled without its data."""


def size(recipe: Sketch) -> Size:
    """Parameters by network that optimizers hold, and what a step keeps at full size."""
    networks = {"G": _generator(recipe), "D": _discriminator(recipe)}
    if recipe.selector is not None:
        networks["selector"] = _selector(recipe)
    parameters = {name: layers.parameters for name, layers in networks.items()}
    generated, judged = (networks[name].activations_per_image for name in ("G", "D"))
    penalised = bool(recipe.loss.r1.gamma) + bool(recipe.loss.gradient_penalty.weight)
    phases = [Phase(parameters["G"], generated + judged)]
    phases.append(Phase(parameters["D"], (2 + _PENALTY * penalised) * judged))
    image, parts = recipe.data.resolution**2, len(recipe.data.part_names)
    weights = 4 * sum(parameters.values()) - parameters["D"]  # weights, two moments; all but D: the average
    return Size(
        parameters,
        weights + 2 * BEGINNINGS * parts * image // 4,  # beginnings are bytes; the average has them, too
        tuple(phases),
        per_image=(2 * parts + 3) * image,
        temporary=1,
        remarks=() if recipe.wiring == "registered" else (_UNREGISTERED,),
    )


def encoder_widths(encoder: Encoder, resolution: int) -> list[int]:
    """Maps at the resolution of the data, at half of it, ... down to 4x4."""
    return [min(encoder.channels << step, encoder.channels_max) for step in range(level_of(resolution) + 1)]


def style_inputs(source: str, latent: int) -> int:
    """How much the first layer of the style network reads."""
    return {"none": 0, "encoder_and_z": 2 * latent}.get(source, latent)


def _generator(recipe: Sketch) -> Layers:
    shape, latent = recipe.generator, recipe.latent
    levels = level_of(recipe.data.resolution) + 1
    widths = [feature_maps(4 << level, shape.channels_base, shape.channels_max) for level in range(levels)]
    extras = [0] * levels
    parameters, activations = 0, 0.0
    coded = latent.source in ("encoder", "encoder_and_z")
    if coded or recipe.encoder.concatenate:
        encoder = _encoder(recipe, recipe.encoder)
        parameters, activations = encoder.parameters, encoder.activations_per_image
        last = encoder_widths(recipe.encoder, recipe.data.resolution)
        parameters += _dense(last[-1] * 16, latent.size) if coded else 0
        extras = last[::-1] if recipe.encoder.concatenate else extras
    if latent.source != "none":
        sizes = [style_inputs(latent.source, latent.size), *[latent.style] * latent.layers]
        parameters += sum(_dense(inputs, outputs) for inputs, outputs in pairwise(sizes))
    parameters += 17 * widths[0] if recipe.wiring != "rgb_and_constant_unregistered" else 0
    for level, width in enumerate(widths):
        inputs = widths[level - 1] + extras[level - 1] if level else 0
        parameters += _block(recipe, inputs, width)
        activations += _KEPT_PER_HALF * 2 * shape.convolutions * width * (4 << level) ** 2
    shown = [width + extra + 1 for width, extra in zip(widths, extras, strict=True)][_start(recipe) :]
    return Layers(parameters + sum(shown if recipe.wiring == "registered" else shown[:1]), round(activations))


def _block(recipe: Sketch, inputs: int, width: int) -> int:
    shape = recipe.generator
    each = 2 * _dense(recipe.latent.style, width) + (width if shape.noise != "off" else 0)
    up = 4 * inputs**2 if shape.upsampling == "transposed" else 0
    return (
        up
        + _convolutions(inputs, width, shape.convolutions)
        + _convolutions(width, width, shape.convolutions)
        + 2 * each
    )


def _discriminator(recipe: Sketch) -> Layers:
    shape = recipe.discriminator
    levels, channels = level_of(recipe.data.resolution) + 1, len(recipe.data.part_names) + 1
    widths = [feature_maps(4 << level, shape.channels_base, shape.channels_max) for level in range(levels)]
    start = levels - 1 if isinstance(recipe.growth, NoGrowth) else level_of(recipe.growth.start_resolution)
    parameters = sum(channels * width + width for width in widths[start:]) if recipe.wiring == "registered" else 0
    parameters += sum(_convolutions(wide, width, shape.convolutions) for width, wide in pairwise(widths))
    parameters += _convolutions(widths[0] + 1, widths[0], 1)
    sizes = [widths[0] * 16, *[shape.dense] * (shape.dense_layers - 1), 1]
    parameters += sum(_dense(inputs, outputs) for inputs, outputs in pairwise(sizes))
    maps = widths[-1] * (4 << levels - 1) ** 2 + widths[0] * 16  # of the layer that reads ink; of the last convolution
    for level, (width, wide) in enumerate(pairwise(widths), start=1):
        maps += (width + (shape.convolutions - 1) * wide) * (4 << level) ** 2
    return Layers(parameters, round(_KEPT_BY_JUDGE * maps))


def _selector(recipe: Sketch) -> Layers:
    assert recipe.selector is not None
    section = Encoder(channels=recipe.selector.channels, channels_max=recipe.selector.channels_max)
    encoder = _encoder(recipe, section)
    last = encoder_widths(section, recipe.data.resolution)[-1]
    return Layers(
        encoder.parameters + _dense(last * 16, len(recipe.data.part_names) + 1), encoder.activations_per_image
    )


def _encoder(recipe: Sketch, section: Encoder) -> Layers:
    widths = encoder_widths(section, recipe.data.resolution)
    inputs = [len(recipe.data.part_names) + 1, *widths[:-1]]
    maps = sum(width * (recipe.data.resolution >> step) ** 2 for step, width in enumerate(widths))
    parameters = sum(_convolutions(wide, width, 1) for wide, width in zip(inputs, widths, strict=True))
    return Layers(parameters, round(_KEPT_BY_ENCODER * maps))


def _start(recipe: Sketch) -> int:
    """The level of the first layer to ink."""
    if recipe.generator.architecture == "skip":
        return 0
    if isinstance(recipe.growth, NoGrowth):
        return level_of(recipe.data.resolution)
    return level_of(recipe.growth.start_resolution)


def _convolutions(inputs: int, outputs: int, count: int) -> int:
    """Parameters of one or two 3x3 convolutions; none without inputs."""
    if not inputs:
        return 0
    return 9 * inputs * outputs + outputs + (count - 1) * (9 * outputs**2 + outputs)


def _dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
