"""Fills what a spec leaves open, and says of every value it fills by which formula.

`resolve` is idempotent: a resolved spec resolves to itself, so the `spec.yaml` of a run can be submitted again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from jobs.spec.job import Job
from jobs.spec.stylegan2 import Preset, StyleGAN2
from jobs.spec.yaml_tree import Path

SectionT = TypeVar("SectionT", bound=BaseModel)


@dataclass(frozen=True)
class Derived:
    """A value that nobody wrote, and the formula it comes from."""

    path: str
    value: Any
    formula: str


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


def resolve(job: Job) -> tuple[Job, tuple[Derived, ...]]:
    """`job` with every open value filled, and what was filled."""
    notes: list[Derived] = []
    recipe = job.recipe
    defaults = _defaults(recipe.preset, recipe.data.resolution, job.training.batch)
    batch = job.training.batch or defaults.batch
    training = _fill(
        job.training,
        "training",
        {
            "batch": (defaults.batch, defaults.batch_formula),
            "micro_batch": (batch, "batch: no accumulation"),
            "sample_images": (_multiple(job.training.images // 20, batch), "images / 20, in whole batches"),
            "checkpoint_images": (
                _multiple(min(job.training.images // 10, 200_000), batch),
                "min(images / 10, 200,000), in whole batches",
            ),
        },
        notes,
    )
    return job.model_copy(update={"training": training, "recipe": _stylegan2(recipe, defaults, batch, notes)}), tuple(
        notes
    )


def conflicts(job: Job) -> Iterator[tuple[Path, str]]:
    """What is wrong with a resolved job as a whole, with the path of the key to change."""
    training, recipe = job.training, job.recipe
    batch, micro_batch, group = training.batch, training.micro_batch, recipe.discriminator.stddev_group
    assert batch is not None and micro_batch is not None and group is not None, "conflicts() takes a resolved job"
    if batch % micro_batch:
        yield ("training", "micro_batch"), f"{micro_batch} does not divide the batch of {batch}"
    if micro_batch % min(group, micro_batch):
        yield (
            ("recipe", "discriminator", "stddev_group"),
            f"a micro-batch of {micro_batch} cannot be cut into groups of {group}; a divisor of it is needed",
        )
    if recipe.path_length.weight and micro_batch < recipe.path_length.batch_shrink:
        yield (
            ("recipe", "path_length", "batch_shrink"),
            f"path length uses micro_batch / batch_shrink = {micro_batch} / {recipe.path_length.batch_shrink} images, "
            "which is none; set path_length.weight to 0, or a larger micro_batch",
        )


def warnings(job: Job) -> Iterator[str]:
    """What is allowed, but was regretted by people who wrote it."""
    gamma = job.recipe.r1.gamma
    if isinstance(gamma, float) and gamma < 0.1 and job.recipe.data.resolution <= 128:
        yield (
            f"recipe.r1.gamma is {gamma:.4g}: at small resolutions the heuristic 0.0002·resolution²/batch is far below "
            "the values (1 to 10) that stop a collapse; write r1.gamma if samples become alike"
        )


def _stylegan2(recipe: StyleGAN2, defaults: _Defaults, batch: int, notes: list[Derived]) -> StyleGAN2:
    preset = f"preset {recipe.preset}"
    base = int(32768 * defaults.feature_maps)
    generator_base = recipe.generator.channels_base or base
    generator = _fill(
        recipe.generator,
        "recipe.generator",
        {
            "channels_base": (base, f"32768 · {defaults.feature_maps} ({preset})"),
            "mapping": (None, ""),
        },
        notes,
    )
    mapping = _fill(
        recipe.generator.mapping, "recipe.generator.mapping", {"layers": (defaults.mapping_layers, preset)}, notes
    )
    discriminator = _fill(
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
            "generator": generator.model_copy(update={"mapping": mapping}),
            "discriminator": discriminator,
            "r1": _fill(recipe.r1, "recipe.r1", {"gamma": _gamma(recipe, defaults, batch)}, notes),
            "path_length": _fill(
                recipe.path_length, "recipe.path_length", {"weight": (defaults.path_length_weight, preset)}, notes
            ),
            "ema": _fill(
                recipe.ema,
                "recipe.ema",
                {
                    "half_life_images": (defaults.ema_half_life_images, _ema_formula(recipe.preset)),
                    "ramp": (defaults.ramp, preset),
                },
                notes,
            ),
            "optimizer": _fill(
                recipe.optimizer, "recipe.optimizer", {"learning_rate": (defaults.learning_rate, preset)}, notes
            ),
            "mixing_probability": _value(
                recipe.mixing_probability,
                Derived("recipe.mixing_probability", defaults.mixing_probability, preset),
                notes,
            ),
        }
    )


def _ema_formula(preset: Preset) -> str:
    return "batch · 10,000 / 32 (preset auto)" if preset == "auto" else f"preset {preset}"


def _gamma(recipe: StyleGAN2, defaults: _Defaults, batch: int) -> tuple[float, str]:
    """R1 gamma: the heuristic of StyleGAN2-ADA only where it is asked for by the name `auto`."""
    if recipe.r1.gamma == "auto" or recipe.preset == "auto":
        return 0.0002 * recipe.data.resolution**2 / batch, "0.0002 · resolution² / batch (auto)"
    return defaults.gamma, f"preset {recipe.preset}"


def _fill(section: SectionT, path: str, values: dict[str, tuple[Any, str]], notes: list[Derived]) -> SectionT:
    """`section` with each open key (None or "auto") of `values` set; what is set is noted."""
    update = {}
    for key, (value, formula) in values.items():
        if getattr(section, key) in (None, "auto"):
            update[key] = value
            notes.append(Derived(f"{path}.{key}", value, formula))
    return section.model_copy(update=update)


def _value(written: Any, otherwise: Derived, notes: list[Derived]) -> Any:
    if written is not None:
        return written
    notes.append(otherwise)
    return otherwise.value


def _multiple(images: int, batch: int) -> int:
    """`images` in whole batches, at least one."""
    return max(images // batch, 1) * batch


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
