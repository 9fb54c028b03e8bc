"""What a StylEx leaves open, what contradicts itself in it, and what was regretted by people who wrote it."""

from collections.abc import Iterator

from jobs.spec.fill import Derived, fill
from jobs.spec.injection import AdaIN
from jobs.spec.stylegan2_resolve import open_parts
from jobs.spec.stylex import StylEx
from jobs.spec.yaml_tree import Path

DEFAULT_BATCH = (32, "32, as in StyleGAN2")


def resolve(recipe: StylEx, notes: list[Derived]) -> StylEx:
    """`recipe` with every open value filled."""
    optimizer = fill(recipe.optimizer, "recipe.optimizer", {"learning_rate": (0.002, "as Lang et al. 2021")}, notes)
    generator = fill(recipe.generator, "recipe.generator", {"channels_base": (16_384, "as StyleGAN2-ADA")}, notes)
    mapping = fill(generator.mapping, "recipe.generator.mapping", {"layers": (8, "as StyleGAN2")}, notes)
    ema = {"half_life_images": (10_000.0, "as StyleGAN2"), "ramp": (0.05, "as StyleGAN2-ADA")}
    base, rate = generator.channels_base, optimizer.learning_rate
    assert rate is not None, "filled above"
    encoder, discriminator = recipe.encoder, recipe.discriminator
    return recipe.model_copy(
        update={
            "optimizer": optimizer,
            "generator": generator.model_copy(update={"mapping": mapping, **open_parts(generator, notes)}),
            "ema": fill(recipe.ema, "recipe.ema", ema, notes),
            "encoder": fill(
                encoder,
                "recipe.encoder",
                {
                    "channels_base": (base, "generator.channels_base"),
                    "learning_rate": (rate * encoder.lr_multiplier, "optimizer.learning_rate · encoder.lr_multiplier"),
                },
                notes,
            ),
            "discriminator": fill(
                discriminator,
                "recipe.discriminator",
                {
                    "channels_base": (base, "generator.channels_base"),
                    "learning_rate": (
                        rate * discriminator.lr_multiplier,
                        "optimizer.learning_rate · discriminator.lr_multiplier",
                    ),
                },
                notes,
            ),
        }
    )


def alike(recipe: StylEx, micro_batch: int) -> bool:
    """Whether the groups of the minibatch deviation, and those of path lengths, stay whole."""
    lengths = recipe.path_length
    whole = not lengths.weight or micro_batch % lengths.batch_shrink == 0
    return micro_batch % recipe.discriminator.stddev_group == 0 and whole


def conflicts(recipe: StylEx, micro_batch: int) -> Iterator[tuple[Path, str]]:
    """What cannot work in a resolved recipe, with the path of the key to change below `recipe`."""
    group, shrink, told = recipe.discriminator.stddev_group, recipe.path_length.batch_shrink, recipe.conditioning
    if micro_batch % min(group, micro_batch):
        yield (
            ("discriminator", "stddev_group"),
            f"a micro-batch of {micro_batch} cannot be cut into groups of {group}; a divisor of it is needed",
        )
    if recipe.path_length.weight and micro_batch < shrink:
        yield (
            ("path_length", "batch_shrink"),
            f"path length uses micro_batch / batch_shrink = {micro_batch} / {shrink} images, which is none; set "
            "path_length.weight to 0, or a larger micro_batch",
        )
    yield from _conflicts_of_generator(recipe)
    if told.discriminator != "none" and told.source == "none":
        yield (
            ("conditioning", "discriminator"),
            f"{told.discriminator} judges images by the classifier's answer, but source: none tells the generator "
            "nothing of it; write none",
        )
    if told.discriminator != "none" and told.inject == "encoder" and recipe.draws:
        yield (
            ("conditioning", "discriminator"),
            f"{told.discriminator} judges every image by the classifier's answer, but with inject: encoder those made "
            "from latents know none; write none, or inject: both",
        )


def _conflicts_of_generator(recipe: StylEx) -> Iterator[tuple[Path, str]]:
    shape = recipe.generator
    if not isinstance(shape.injection, AdaIN):
        yield (
            ("generator", "injection"),
            f"{shape.injection.kind} has no style coordinate for every channel, which AttFind moves; write adain_sg2",
        )
    if shape.mapping.layers == 0:
        yield ("generator", "mapping", "layers"), "0 layers make w = z, which the encoder cannot meet; at least one"
    if shape.noise.start_images:
        yield (
            ("generator", "noise", "start_images"),
            "a StylEx has its noise from the first image on; write 0, or mode: off",
        )


def warnings(recipe: StylEx) -> Iterator[str]:
    """What is allowed, but was regretted by people who wrote it."""
    perceptual = recipe.reconstruction.perceptual
    if perceptual.normalize == "per_image" and perceptual.kind != "none" and perceptual.weight:
        yield (
            "recipe.reconstruction.perceptual.normalize: per_image stretches every image by itself, so this distance "
            "does not see brightness and contrast; fixed does"
        )
    if recipe.kl_rec_during_disc == "carry":
        yield (
            "recipe.kl_rec_during_disc: carry adds the gradient of a second pass over the same images, which is about "
            "twice reconstruction.scale and kl.scale; own_step is a step of its own"
        )
