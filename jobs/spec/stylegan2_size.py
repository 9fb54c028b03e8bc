"""How large the networks of a StyleGAN2 are, in closed form, without building them."""

import math
from dataclasses import dataclass
from itertools import pairwise

from jobs.spec.data import CHANNEL_COUNT, ModeGrid
from jobs.spec.injection_size import injection_layers
from jobs.spec.layers import Layers, Phase, Size
from jobs.spec.stylegan2 import Architecture, Generator, StyleGAN2, ToRGB

_KEPT_PER_CONVOLUTION = 4
"""Maps of its size that a styled convolution keeps: scaled input, or product before the blur; product, sum, output."""
TWICE = 2.05
"""What a penalty keeps that differentiates twice, in passes through the network."""
_AUGMENTED = 7
"""Images that an augmentation keeps when it is differentiated."""

LABEL_LAYERS = 8
"""Dense layers that map a label for the discriminator."""
LABELS_ON_TOP = "parameters of the label embedding depend on the number of classes in the data, and come on top"


def size(recipe: StyleGAN2, classes: int | None = None) -> Size:
    """Parameters by network, and what a step keeps. `classes`: default, those that the spec alone tells."""
    classes = known_classes(recipe) if classes is None else classes
    G = generator_layers(recipe, classes)
    D = discriminator_layers(recipe, classes)
    generated, judged, paths = G.activations_per_image, D.activations_per_image, recipe.path_length
    image = CHANNEL_COUNT[recipe.data.channels] * recipe.data.resolution**2
    seen = 0 if recipe.augmentation is None else _AUGMENTED * image
    phases = [
        Phase(G.parameters, generated + judged, exact=seen, scaled=D.parameters),
        Phase(D.parameters, 2 * judged, scaled=2 * D.parameters),
    ]
    if paths.weight:
        phases.append(Phase(G.parameters, TWICE * generated / paths.batch_shrink))
    if recipe.r1.gamma:
        phases.append(Phase(D.parameters, 0, exact=TWICE * (judged + seen), scaled=D.parameters))
    return Size(
        {"G": G.parameters, "D": D.parameters},
        4 * G.parameters + 3 * D.parameters,  # weights, two moments; G: the average
        tuple(phases),
        per_image=image,
        remarks=(LABELS_ON_TOP,) if recipe.conditional and not classes else (),
    )


def known_classes(recipe: StyleGAN2) -> int:
    """Classes that the networks listen to, where the spec alone tells how many there are."""
    data = recipe.data
    return data.modes if recipe.conditional and isinstance(data, ModeGrid) else 0


@dataclass(frozen=True)
class StyledLayer:
    """A convolution of the synthesis network that may listen to a style: inside the network, or to RGB."""

    inputs: int
    outputs: int
    kernel: int
    size: int
    """Pixels of its output's side."""
    injected: bool
    rgb: bool = False


def styled_layers(shape: Generator, top: int, rgb: int = 3) -> list[StyledLayer]:
    """Every such layer of a resolved generator of `top` pixels, from 4x4 upwards."""
    assert shape.channels_base is not None, "a resolved spec"
    layers: list[StyledLayer] = []
    before = 0
    for size in resolutions(top):
        maps = feature_maps(size, shape.channels_base, shape.channels_max)
        drawn_by_convolution = size == top and shape.to_rgb.present == "none"
        inputs = [before] if before else []
        inputs += [] if drawn_by_convolution else [maps]
        layers += [StyledLayer(width, maps, 3, size, injected=True) for width in inputs]
        if shows(shape.to_rgb, size, top):
            injected = rgb_injected(shape.to_rgb, size, top)
            layers.append(StyledLayer(maps, rgb, 3 if drawn_by_convolution else 1, size, injected, rgb=True))
        before = maps
    return layers


def shows(to_rgb: ToRGB, size: int, top: int) -> bool:
    """Whether something turns the maps of `size` pixels into an image."""
    return size == top or to_rgb.present == "all"


def rgb_injected(to_rgb: ToRGB, size: int, top: int) -> bool:
    """Whether that layer listens to a style."""
    return to_rgb.injected in ("all", "last" if size == top else "all_but_last")


def generator_layers(recipe: StyleGAN2, classes: int) -> Layers:
    """The mapping and synthesis networks."""
    shape, top = recipe.generator, recipe.data.resolution
    assert shape.mapping.layers is not None and shape.channels_base is not None, "a resolved spec"
    rgb, style = CHANNEL_COUNT[recipe.data.channels], shape.style
    parameters = 0 if shape.mapping.frozen else _mapping(shape.latent, style, shape.mapping.layers, classes)
    activations = 0
    strengths = int(shape.noise.mode != "off" and shape.noise.strength == "learned")
    for layer in styled_layers(shape, top, rgb):
        parameters += layer.inputs * layer.outputs * layer.kernel**2 + layer.outputs
        if layer.injected:
            convolution = (layer.inputs, layer.outputs, layer.kernel)
            added = injection_layers(shape.injection, style, convolution, layer.size)
            parameters += added.parameters
            activations += added.activations_per_image
        map_ = layer.size**2
        if layer.rgb:  # the scaled input; its image, up-sampled and summed
            activations += (layer.inputs + 2 * rgb) * map_
        else:
            parameters += strengths
            activations += _KEPT_PER_CONVOLUTION * layer.outputs * map_
    widths = [feature_maps(size, shape.channels_base, shape.channels_max) for size in resolutions(top)]
    parameters += widths[0] * 4**2  # the learned constant
    if shape.architecture == "resnet":
        parameters += sum(before * maps for before, maps in pairwise(widths))
    return Layers(parameters, activations)


def discriminator_layers(recipe: StyleGAN2, classes: int) -> Layers:
    """The discriminator."""
    shape = recipe.discriminator
    assert shape.channels_base is not None and shape.architecture is not None, "a resolved spec"
    rgb, top = CHANNEL_COUNT[recipe.data.channels], recipe.data.resolution
    parameters = activations = 0
    for resolution in reversed(resolutions(top)[1:]):
        inputs = feature_maps(resolution, shape.channels_base, shape.channels_max)
        outputs = feature_maps(resolution // 2, shape.channels_base, shape.channels_max)
        parameters += _from_rgb(shape.architecture, resolution, top, rgb, inputs)
        parameters += inputs * inputs * 9 + inputs + inputs * outputs * 9 + outputs
        parameters += inputs * outputs if shape.architecture == "resnet" else 0
        activations += judging_block(shape.architecture, (inputs, outputs), resolution, top)
    last = feature_maps(4, shape.channels_base, shape.channels_max)
    parameters += _from_rgb(shape.architecture, 4, top, rgb, last)
    parameters += (last + 1) * last * 9 + last + _dense(last * 16, last)
    parameters += _dense(last, last) + _mapping(0, last, LABEL_LAYERS, classes) if classes else _dense(last, 1)
    return Layers(parameters, activations + _KEPT_PER_CONVOLUTION * last * 16)


def judging_block(architecture: Architecture, widths: tuple[int, int], resolution: int, top: int) -> int:
    """Numbers that a block of a discriminator or encoder keeps an image, on its way from `resolution` to half of it."""
    (inputs, outputs), map_ = widths, resolution**2
    shown = resolution == top or architecture == "skip"
    kept = (2 * inputs if shown else 0) * map_  # sum and output of the layer that reads the image
    kept += 3 * inputs * map_  # sum, output, blurred
    kept += 2 * outputs * map_ // 4  # sum, output
    return kept + ((inputs + outputs) * map_ // 4 if architecture == "resnet" else 0)


def feature_maps(resolution: int, base: int, most: int) -> int:
    """Channels of the layers at `resolution`."""
    return max(min(base // resolution, most), 1)


def resolutions(top: int) -> list[int]:
    """4, 8, ... `top`."""
    return [2**power for power in range(2, int(math.log2(top)) + 1)]


def _dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _from_rgb(architecture: Architecture, resolution: int, top: int, rgb: int, outputs: int) -> int:
    shown = resolution == top or architecture == "skip"
    return rgb * outputs + outputs if shown else 0


def _mapping(latent: int, style: int, layers: int, classes: int) -> int:
    embedding = _dense(classes, style) if classes else 0
    first = latent + (style if classes else 0)
    widths = [first, *[style] * layers]
    return embedding + sum(_dense(inputs, outputs) for inputs, outputs in pairwise(widths))
