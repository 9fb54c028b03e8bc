"""What a translation leaves open, what contradicts itself in it, and what was regretted by people who wrote it."""

from collections.abc import Iterator

from jobs.spec import decay
from jobs.spec.arrows import parse
from jobs.spec.fill import Derived, fill
from jobs.spec.layer_list import Final, LayerList, Network, Reconv, Spap
from jobs.spec.layer_shapes import LayerShape, ShapeError, trace
from jobs.spec.pairs import channel_count
from jobs.spec.translation import Discriminator, Generator, Translation
from jobs.spec.yaml_tree import Path

PATCHES = "conv(d64,k4,s2,norm=none) -> conv(d128,k4,s2) -> conv(d256,k4,s2) -> conv(d512,k4,p1) -> final(k4,p1)"
"""PatchGAN of 70 x 70 pixels."""


def default_batch() -> tuple[int, str]:
    """Images an iteration where the spec does not say, and the formula."""
    return 1, "as published with CycleGAN"


def resolve(recipe: Translation, images: int, notes: list[Derived]) -> Translation:
    """`recipe` with every open value filled, for a run of `images`."""
    preset = f"preset {recipe.preset}"
    generator, discriminator = _generator(recipe), PATCHES
    loss = fill(recipe.loss, "recipe.loss", {"identity": (_identity(recipe), preset)}, notes)
    return recipe.model_copy(
        update={
            "generator": _network(recipe.generator, "generator", generator, preset, channel_count(recipe.data), notes),
            "discriminator": _network(recipe.discriminator, "discriminator", discriminator, preset, 1, notes),
            "loss": loss,
            "optimizer": recipe.optimizer.model_copy(update={"decay": _decay(recipe, images, notes)}),
        }
    )


def conflicts(recipe: Translation, micro_batch: int) -> Iterator[tuple[Path, str]]:
    """What cannot work in a resolved recipe, with the path of the key to change below `recipe`."""
    for name, network, channels in networks(recipe):
        yield from _conflicts_of_layers(network, name, channels, recipe)
    if recipe.paired and recipe.critic_steps > 1 and recipe.loss.adversarial == "none":
        yield ("critic_steps",), "there is no critic where loss.adversarial is none"
    if not recipe.paired and recipe.loss.adversarial == "none" and not recipe.loss.cycle:
        yield ("loss",), "adversarial: none and cycle: 0 leave nothing to learn"
    for name, network in (("generator", recipe.generator), ("discriminator", recipe.discriminator)):
        if network.norm == "batch" and micro_batch == 1 and name == "generator":
            yield (name, "norm"), "batch normalisation with one image at a time is instance normalisation: say that"


def alike(recipe: Translation) -> bool:
    """Whether no image knows of the others of its batch."""
    return not any(
        norm == "batch"
        for _, network, _ in networks(recipe)
        for norm in (network.norm, *(getattr(layer, "norm", None) for layer in network.layers or ()))
    )


def warnings(recipe: Translation, images: int) -> Iterator[str]:
    """What is allowed, but was regretted by people who wrote it."""
    for name, network, _ in networks(recipe):
        for number, layer in enumerate(network.layers or (), 1):
            where = f"recipe.{name}.layers, layer {number}"
            if isinstance(layer, Reconv) and layer.kernel % 2 == 0 and network.alignment == "tensorflow":
                yield f"{where}: its {layer.kernel}x{layer.kernel} kernel moves the picture by half a pixel"
            if isinstance(layer, Spap) and layer.kernel == 1 and layer.levels > 1:
                yield f"{where}: with kernel 1 more levels add gates, but no pixel to the receptive field"
    middle = decay.factor(recipe.optimizer.decay, images // 2)
    if middle < 0.01:
        yield (
            f"recipe.optimizer.decay: half way through, the rate is {middle:.2g} of its start: what is left of "
            "the run learns next to nothing; was multiply_by meant to be lower_by?"
        )


def networks(recipe: Translation) -> Iterator[tuple[str, Network, int]]:
    """Each kind of network with its name in the spec and the channels that it reads."""
    channels = channel_count(recipe.data)
    yield "generator", recipe.generator, channels
    if recipe.loss.adversarial != "none":
        yield "discriminator", recipe.discriminator, 2 * channels if recipe.paired else channels


def _conflicts_of_layers(network: Network, name: str, channels: int, recipe: Translation) -> Iterator[tuple[Path, str]]:
    layers = network.layers
    assert layers is not None, "a resolved spec"
    for index, layer in enumerate(layers):
        path: Path = (name, "layers", index)
        if isinstance(layer, Final) and index < len(layers) - 1:
            yield path, f"layer {index + 1} (final) is not the last one"
        if isinstance(layer, Spap):
            yield from ((path, f"layer {index + 1} (spap): {reason}") for reason in _strange_pyramid(layer))
    try:
        last = trace(network, channels, recipe.data.resolution)[-1]
    except ShapeError as error:
        kind = layers[error.index].kind
        yield (name, "layers", error.index), f"layer {error.index + 1} ({kind}): {error}"
        return
    yield from ((path, message) for path, message in _wrong_end(name, network, last, recipe))


def _wrong_end(name: str, network: Network, last: LayerShape, recipe: Translation) -> Iterator[tuple[Path, str]]:
    assert network.layers is not None
    path: Path = (name, "layers", last.number - 1)
    where = f"layer {last.number} ({network.layers[-1].kind})"
    channels, side = channel_count(recipe.data), recipe.data.resolution
    if name == "generator" and (last.channels, last.side) != (channels, side):
        put_out, image = (
            f"{count} x {size} x {size}" for count, size in ((last.channels, last.side), (channels, side))
        )
        yield path, f"{where} puts out {put_out}, but the images are {image}"
    end = network.layers[-1]
    if name == "discriminator" and (not isinstance(end, Final) or end.activation != "none"):
        yield path, f"{where}: a discriminator ends in a final layer without activation, so that logits are unbounded"


def _strange_pyramid(layer: Spap) -> Iterator[str]:
    if layer.dilations is None:
        return
    if len(layer.dilations) != layer.levels:
        yield f"{layer.levels} levels need as many dilations, not {len(layer.dilations)}"
    if layer.kernel == 1 and any(dilation > 1 for dilation in layer.dilations):
        yield "a dilated kernel of 1 is a plain kernel of 1; leave dilations out, or use kernel 3"


def _network(
    network: Network, name: str, layers: str, preset: str, channels: int, notes: list[Derived]
) -> Generator | Discriminator:
    """`network` with its layers, the last of them complete."""
    assert isinstance(network, Generator | Discriminator)
    written = network.layers
    if written is None:
        written = tuple(parse(layers))
        notes.append(Derived(f"recipe.{name}.layers", layers, preset))
    return network.model_copy(update={"layers": _completed(written, channels, generates=name == "generator")})


def _completed(layers: LayerList, channels: int, *, generates: bool) -> LayerList:
    """The final layer with its channels and its activation."""
    *before, last = layers
    if not isinstance(last, Final):
        return layers
    open_ = {"channels": channels, "activation": "tanh" if generates else "none"}
    filled = {name: value for name, value in open_.items() if getattr(last, name) is None}
    return (*before, last.model_copy(update=filled))


def _generator(recipe: Translation) -> str:
    """The preset's layers at the resolution of the data."""
    side = recipe.data.resolution
    if recipe.preset == "spap":
        return (
            f"resize({side // 2}) -> conv(d64,k7) -> down(2) -> spap(5,k1,gate=relu) -> up(2) -> "
            f"reconv({side},d64,k2) -> final(k7)"
        )
    return f"conv(d64,k7) -> down(2) -> residual({9 if side >= 256 else 6}) -> transposed(2) -> final(k7)"


def _identity(recipe: Translation) -> float:
    return 0.0 if recipe.paired or recipe.preset == "spap" else 5.0


def _decay(recipe: Translation, images: int, notes: list[Derived]) -> decay.Decay:
    written = recipe.optimizer.decay
    if not isinstance(written, decay.Linear):
        return written
    values = {"start_images": (images // 2, "images / 2"), "end_images": (images, "images")}
    return fill(written, "recipe.optimizer.decay", values, notes)
