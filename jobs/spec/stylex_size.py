"""How large the networks of a StylEx are, in closed form, without building them."""

from jobs.spec import stylegan2_size
from jobs.spec.data import CHANNEL_COUNT, PlantedAttributes
from jobs.spec.layers import Layers, Phase, Size
from jobs.spec.stylegan2 import Discriminator, StyleGAN2
from jobs.spec.stylegan2_size import TWICE, feature_maps, judging_block, resolutions
from jobs.spec.stylex import R1, Encoder, StylEx

SMALL_CLASSIFIER = (32, 64, 128, 128)
"""Channels of the small classifier's stages, each at half the side of the one before."""
_KEPT_PER_STAGE = 3
"""Maps that a stage of the classifier keeps: product, normalised, rectified."""
_ON_TOP = "activations of the {} come on top of the memory"
_TWO_CLASSES = "counted for two classes; each further one adds a little to every network"


def size(recipe: StylEx, classes: int | None = None) -> Size:
    """Parameters by network, and what a step keeps. `classes`: default, those that the spec alone tells."""
    remarks: tuple[str, ...] = () if classes or known_classes(recipe) else (_TWO_CLASSES,)
    count = classes or known_classes(recipe) or 2
    networks = {"G": _generator(recipe, count)}
    if recipe.encodes:
        networks["E"] = _encoder(recipe)
    networks["D"] = _discriminator(recipe, count)
    parameters = {name: layers.parameters for name, layers in networks.items()}
    generated, judged = (networks[name].activations_per_image for name in ("G", "D"))
    learning, made, seen, scaled = parameters["G"], generated + judged, 0, parameters["D"]
    if recipe.encodes:  # the encoder reads the image and its reconstruction
        seen, unseen = _watchers(recipe)
        learning, made = learning + parameters["E"], made + 2 * networks["E"].activations_per_image
        scaled += 2 * parameters["E"]
        remarks += tuple(_ON_TOP.format(name) for name in unseen)
    phases = [
        Phase(learning, made, exact=seen, scaled=scaled),
        Phase(parameters["D"], 2 * judged, scaled=2 * parameters["D"]),
    ]
    if recipe.path_length.weight:
        phases.append(Phase(parameters["G"], TWICE * generated / recipe.path_length.batch_shrink))
    if recipe.penalty.gamma if isinstance(recipe.penalty, R1) else recipe.penalty.weight:
        phases.append(Phase(parameters["D"], 0, exact=TWICE * judged, scaled=parameters["D"]))
    averaged = sum(parameters.values()) - parameters["D"]
    return Size(
        parameters,
        3 * sum(parameters.values()) + averaged,
        tuple(phases),
        per_image=CHANNEL_COUNT[recipe.data.channels] * recipe.data.resolution**2,
        remarks=remarks,
    )


def known_classes(recipe: StylEx) -> int | None:
    """Classes, where the spec alone tells how many there are."""
    data = recipe.data
    if isinstance(data, PlantedAttributes) or getattr(data, "against_rest", None) is not None:
        return 2
    return None


def _watchers(recipe: StylEx) -> tuple[int, tuple[str, ...]]:
    """Numbers kept per image by what looks at the reconstruction; and the names of those that are not counted."""
    side = recipe.classifier.input_side or recipe.data.resolution
    stages = sum(channels * (side >> stage) ** 2 for stage, channels in enumerate(SMALL_CLASSIFIER))
    small, distance = recipe.classifier.architecture == "small", recipe.reconstruction.perceptual.kind
    kept = _KEPT_PER_STAGE * stages if small else 0
    unseen = () if small else (f"classifier {recipe.classifier.architecture}",)
    match distance:
        case "none":
            return kept, unseen
        case "lpips":
            return kept, (*unseen, f"distance {recipe.reconstruction.perceptual.network}")
        case "classifier" | "random_conv":  # of a similar size; the image's own maps are kept beside
            return kept + ((_KEPT_PER_STAGE + 1) * stages if small or distance == "random_conv" else 0), unseen


def _generator(recipe: StylEx, classes: int) -> Layers:
    shape, told = recipe.generator, recipe.conditioning
    assert shape.mapping.layers is not None, "a resolved spec"
    style = shape.style + (0 if told.source == "none" else classes)
    frozen = shape.mapping.model_copy(update={"frozen": True})  # counted below: it may be narrower than the styles
    synthesis = shape.model_copy(update={"style": style, "mapping": frozen})
    layers = stylegan2_size.generator_layers(StyleGAN2(data=recipe.data, generator=synthesis), 0)
    if not recipe.draws or shape.mapping.frozen or not shape.mapping.layers:
        return layers
    mapped = shape.style if told.inject == "both" else style
    mapping = _dense(shape.latent, mapped) + (shape.mapping.layers - 1) * _dense(mapped, mapped)
    return Layers(layers.parameters + mapping, layers.activations_per_image)


def _encoder(recipe: StylEx) -> Layers:
    stack = _stack(recipe, recipe.encoder)
    last = feature_maps(4, recipe.encoder.channels_base or 0, recipe.encoder.channels_max)
    parameters = stack.parameters + last * last * 9 + last + _dense(last * 16, recipe.generator.style)
    return Layers(parameters, stack.activations_per_image)


def _discriminator(recipe: StylEx, classes: int) -> Layers:
    told, shape = recipe.conditioning.discriminator, recipe.discriminator
    like = Discriminator(**shape.model_dump(include=set(Discriminator.model_fields)))
    layers = stylegan2_size.discriminator_layers(
        StyleGAN2(data=recipe.data, discriminator=like), classes if told == "projection" else 0
    )
    more_heads = (classes - 1) * (feature_maps(4, shape.channels_base or 0, shape.channels_max) + 1)
    return Layers(layers.parameters + (more_heads if told == "weighted_heads" else 0), layers.activations_per_image)


def _stack(recipe: StylEx, shape: Encoder) -> Layers:
    """The encoder's blocks."""
    assert shape.channels_base is not None, "a resolved spec"
    rgb, top = CHANNEL_COUNT[recipe.data.channels], recipe.data.resolution
    parameters = activations = 0
    for resolution in reversed(resolutions(top)):
        inputs = feature_maps(resolution, shape.channels_base, shape.channels_max)
        if resolution == top or shape.architecture == "skip":
            parameters += rgb * inputs + inputs
        if resolution == 4:
            break
        outputs = feature_maps(resolution // 2, shape.channels_base, shape.channels_max)
        parameters += inputs * inputs * 9 + inputs + inputs * outputs * 9 + outputs
        parameters += inputs * outputs if shape.architecture == "resnet" else 0
        activations += judging_block(shape.architecture, (inputs, outputs), resolution, top)
    return Layers(parameters, activations)


def _dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
