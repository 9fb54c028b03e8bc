"""What a StyleGAN2 leaves open, what contradicts itself in it, and what was regretted by people who wrote it."""

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.spec import injection
from jobs.spec.base import Section
from jobs.spec.fill import Derived, fill
from jobs.spec.injection import StyleMatrix
from jobs.spec.stylegan2 import Generator, Preset, StyleGAN2
from jobs.spec.stylegan2_size import feature_maps, styled_layers
from jobs.spec.yaml_tree import Path


@dataclass(frozen=True)
class _Defaults:
    """One row of the presets table (StyleGAN2-ADA's configurations), at one resolution and batch."""

    batch: int
    batch_formula: str
    stddev_group: int
    feature_maps: float
    learning_rate: float
    gamma: float
    ema_half_life_images: float
    ramp: float
    mapping_layers: int
    path_length_weight: float = 2.0
    mixing_probability: float = 0.9
    architecture: str = "resnet"


def conflicts(recipe: StyleGAN2, micro_batch: int) -> Iterator[tuple[Path, str]]:
    """What cannot work in a resolved recipe, with the path of the key to change below `recipe`."""
    group = recipe.discriminator.stddev_group
    assert group is not None, "a resolved spec"
    if micro_batch % group:
        yield (
            ("discriminator", "stddev_group"),
            f"a micro-batch of {micro_batch} cannot be cut into groups of {group}; a divisor of it is needed",
        )
    if recipe.path_length.weight and micro_batch < recipe.path_length.batch_shrink:
        yield (
            ("path_length", "batch_shrink"),
            f"path length uses micro_batch / batch_shrink = {micro_batch} / {recipe.path_length.batch_shrink} images, "
            "which is none; set path_length.weight to 0, or a larger micro_batch",
        )
    yield from _conflicts_of_generator(recipe)


def _conflicts_of_generator(recipe: StyleGAN2) -> Iterator[tuple[Path, str]]:
    shape = recipe.generator
    layers = [(layer.inputs, layer.size) for layer in styled_layers(shape, recipe.data.resolution) if layer.injected]
    for path, message in injection.conflicts(shape.injection, layers):
        yield ("generator", "injection", *path), message
    if shape.mapping.layers == 0 and shape.latent != shape.style:
        yield (
            ("generator", "mapping", "layers"),
            f"0 layers make w = z, but z has {shape.latent} numbers and w has {shape.style}; give both one size",
        )
    if shape.mapping.layers == 0 and recipe.conditional:
        yield (
            ("generator", "mapping", "layers"),
            "0 layers leave no place for the class label to enter; conditional training needs at least one",
        )
    if shape.noise.mode != "off" and shape.noise.strength == "fixed" and shape.noise.strength_init == 0:
        yield (
            ("generator", "noise", "strength"),
            "fixed at a strength_init of 0 there is no noise; write mode: off, or a strength_init",
        )


def alike(recipe: StyleGAN2, micro_batch: int) -> bool:
    """Whether the groups of the minibatch deviation, and those of path lengths, stay whole."""
    group, shrink = recipe.discriminator.stddev_group, recipe.path_length.batch_shrink
    assert group is not None, "a resolved spec"
    return micro_batch % group == 0 and (not recipe.path_length.weight or micro_batch % shrink == 0)


def warnings(recipe: StyleGAN2) -> Iterator[str]:
    """What is allowed, but was regretted by people who wrote it."""
    gamma = recipe.r1.gamma
    if isinstance(gamma, float) and gamma < 0.1 and recipe.data.resolution <= 128:
        yield (
            f"recipe.r1.gamma is {gamma:.4g}: at small resolutions the heuristic 0.0002·resolution²/batch is far below "
            "the values (1 to 10) that stop a collapse; write r1.gamma if samples become alike"
        )


def default_batch(recipe: StyleGAN2, written: int | None) -> tuple[int, str]:
    """Images an iteration where the spec does not say, and the formula."""
    defaults = _defaults(recipe.preset, recipe.data.resolution, written)
    return defaults.batch, defaults.batch_formula


def resolve(recipe: StyleGAN2, batch: int, notes: list[Derived]) -> StyleGAN2:
    """`recipe` with every open value filled, for batches of `batch` images."""
    defaults = _defaults(recipe.preset, recipe.data.resolution, batch)
    preset = f"preset {recipe.preset}"
    recipe = fill(recipe, "recipe", {"mixing_probability": (defaults.mixing_probability, preset)}, notes)
    base = int(32768 * defaults.feature_maps)
    generator_base = recipe.generator.channels_base or base
    generator = fill(
        recipe.generator,
        "recipe.generator",
        {
            "channels_base": (base, f"32768 · {defaults.feature_maps} ({preset})"),
        },
        notes,
    )
    mapping = fill(
        recipe.generator.mapping, "recipe.generator.mapping", {"layers": (defaults.mapping_layers, preset)}, notes
    )
    discriminator = fill(
        recipe.discriminator,
        "recipe.discriminator",
        {
            "architecture": (defaults.architecture, preset),
            "channels_base": (generator_base, "generator.channels_base"),
            "stddev_group": (defaults.stddev_group, preset),
        },
        notes,
    )
    return recipe.model_copy(
        update={
            "generator": generator.model_copy(update={"mapping": mapping, **open_parts(generator, notes)}),
            "discriminator": discriminator,
            "r1": fill(recipe.r1, "recipe.r1", {"gamma": _gamma(recipe, defaults, batch)}, notes),
            "path_length": fill(
                recipe.path_length, "recipe.path_length", {"weight": (defaults.path_length_weight, preset)}, notes
            ),
            "ema": fill(
                recipe.ema,
                "recipe.ema",
                {
                    "half_life_images": (defaults.ema_half_life_images, _ema_formula(recipe.preset)),
                    "ramp": (defaults.ramp, preset),
                },
                notes,
            ),
            "optimizer": fill(
                recipe.optimizer, "recipe.optimizer", {"learning_rate": (defaults.learning_rate, preset)}, notes
            ),
        }
    )


def open_parts(shape: Generator, notes: list[Derived]) -> dict[str, Section]:
    """Injection and to-RGB layers of a generator, filled."""
    assert shape.channels_base is not None, "filled before"
    present = "all" if shape.architecture == "skip" else "last"
    rgb = {"present": (present, f"architecture {shape.architecture}")}
    style = shape.injection
    if isinstance(style, StyleMatrix):
        widest = feature_maps(4, shape.channels_base, shape.channels_max)
        style = fill(style, "recipe.generator.injection", {"k": (widest, "maps of the widest layer (K = C)")}, notes)
    return {"to_rgb": fill(shape.to_rgb, "recipe.generator.to_rgb", rgb, notes), "injection": style}


def _ema_formula(preset: Preset) -> str:
    return "batch · 10,000 / 32 (preset auto)" if preset == "auto" else f"preset {preset}"


def _gamma(recipe: StyleGAN2, defaults: _Defaults, batch: int) -> tuple[float, str]:
    """R1 gamma: the heuristic of StyleGAN2-ADA only where it is asked for by the name `auto`."""
    if recipe.r1.gamma == "auto" or recipe.preset == "auto":
        return 0.0002 * recipe.data.resolution**2 / batch, "0.0002 · resolution² / batch (auto)"
    return defaults.gamma, f"preset {recipe.preset}"


def _defaults(preset: Preset, resolution: int, batch: int | None) -> _Defaults:
    """The presets table. Values: gan-training configurations published with StyleGAN2-ADA (Karras et al. 2020)."""
    match preset:
        case "auto":
            own = max(min(4096 // resolution, 32), 1)
            used = batch or own
            return _Defaults(
                batch=own,
                batch_formula="min(4096 / resolution, 32) (preset auto)",
                stddev_group=min(used, 4),
                feature_maps=1.0 if resolution >= 512 else 0.5,
                learning_rate=0.002 if resolution >= 1024 else 0.0025,
                gamma=0.0002 * resolution**2 / used,
                ema_half_life_images=used * 10_000 / 32,
                ramp=0.05,
                mapping_layers=2,
            )
        case "stylegan2":
            return _row(preset, (32, 4, 1.0, 0.002, 10.0, 10_000, 0.0, 8))
        case "paper256":
            return _row(preset, (64, 8, 0.5, 0.0025, 1.0, 20_000, 0.0, 8))
        case "paper512":
            return _row(preset, (64, 8, 1.0, 0.0025, 0.5, 20_000, 0.0, 8))
        case "paper1024":
            return _row(preset, (32, 4, 1.0, 0.002, 2.0, 10_000, 0.0, 8))
        case "cifar":
            row = _row(preset, (64, 32, 1.0, 0.0025, 0.01, 500_000, 0.05, 2))
            return _Defaults(
                **{**vars(row), "path_length_weight": 0.0, "mixing_probability": 0.0, "architecture": "orig"}
            )


def _row(preset: str, row: tuple[int, int, float, float, float, float, float, int]) -> _Defaults:
    batch, group, feature_maps, rate, gamma, half_life, ramp, layers = row
    return _Defaults(batch, f"preset {preset}", group, feature_maps, rate, gamma, half_life, ramp, layers)
