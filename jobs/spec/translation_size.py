"""How large the networks of a translation are, layer by layer, in closed form."""

from jobs.spec.layer_shapes import LayerShape, trace
from jobs.spec.layers import NetworkLayers, Phase, Size
from jobs.spec.pairs import channel_count
from jobs.spec.translation import Translation
from jobs.spec.translation_resolve import networks


def size(recipe: Translation) -> Size:
    """Parameters by network, layers by kind of network, and what a step keeps."""
    listed = {name: trace(network, channels, recipe.data.resolution) for name, network, channels in networks(recipe)}
    generator, discriminator = listed["generator"], listed.get("discriminator", [])
    ways = ("AB",) if recipe.paired else ("AB", "BA")
    parameters = {f"G_{way}": _parameters(generator) for way in ways}
    parameters |= {f"D_{way[1]}": _parameters(discriminator) for way in ways if discriminator}
    made = len(ways) * _parameters(generator)
    judging = len(ways) * _parameters(discriminator)
    image = channel_count(recipe.data) * recipe.data.resolution**2
    remembered = len(ways) * recipe.pool * image if discriminator and not recipe.paired else 0
    kept = _generator_passes(recipe) * _kept(generator) + len(ways) * _kept(discriminator)
    return Size(
        parameters,
        4 * made + 3 * judging + remembered,  # weights, two moments; generators: the average
        (Phase(made, kept), Phase(judging, 2 * _kept(discriminator))),
        per_image=4 * image,  # both domains, and what was made of each
        temporary=1,
        networks=tuple(NetworkLayers(name, tuple(layers)) for name, layers in listed.items()),
    )


def _generator_passes(recipe: Translation) -> int:
    """How often an image goes through a generator in one step of the generators."""
    if recipe.paired:
        return 1
    return 2 + (2 if recipe.loss.cycle else 0) + (2 if recipe.loss.identity else 0)


def _parameters(layers: list[LayerShape]) -> int:
    return sum(layer.parameters for layer in layers)


def _kept(layers: list[LayerShape]) -> int:
    return sum(layer.kept for layer in layers)
