"""What a sketch recipe leaves open, what contradicts itself in it, and what was regretted by people who wrote it."""

from collections.abc import Iterator

from jobs.spec.fill import Derived, fill, multiple
from jobs.spec.growth import Decaying, Phases, Timetable, timetable
from jobs.spec.sketch import Sketch
from jobs.spec.yaml_tree import Path

BATCH = 32


def resolve(recipe: Sketch, images: int, batch: int, notes: list[Derived]) -> Sketch:
    """`recipe` with every open value filled, for `images` images in batches of `batch`."""
    ema = fill(
        recipe.ema,
        "recipe.ema",
        {"half_life_images": (batch * 100, "100 batches"), "ramp": (0.05, "as StyleGAN2-ADA")},
        notes,
    )
    growth = recipe.growth
    if isinstance(growth, Phases):
        growth = _phases(growth, recipe.data.resolution, images, batch, notes)
    return recipe.model_copy(update={"ema": ema, "growth": growth})


def _phases(growth: Phases, resolution: int, images: int, batch: int, notes: list[Derived]) -> Phases:
    """Equal phases: one at the start, and a fade and a hold for each resolution after it."""
    growths = resolution.bit_length() - growth.start_resolution.bit_length()
    equal = multiple(images // (2 * growths + 1), batch)
    length = equal // batch if growth.unit == "iterations" else equal
    formula = f"training.images / {2 * growths + 1} phases"
    first = growth.stabilise if growth.stabilise is not None else length
    as_first = "growth.stabilise" if growth.stabilise is not None else formula
    values = {"stabilise": (length, formula), "fade": (max(first, 1), as_first), "hold": (first, as_first)}
    return fill(growth, "recipe.growth", values, notes)


def alike(recipe: Sketch, micro_batch: int) -> bool:
    """Whether the groups of the minibatch deviation stay whole, and no noise is shared by a batch."""
    return micro_batch % recipe.discriminator.stddev_group == 0 and recipe.generator.noise != "shared"


def grace(recipe: Sketch, images: int, batch: int) -> tuple[int, str]:
    """From when on pictures are judged, and the formula: a picture of 4x4 is no failure."""
    ends = timetable(recipe.growth, recipe.data.resolution, batch).ends
    return max(ends, images * 3 // 10), "when the last resolution has faded in, at least 30 % of the run"


def conflicts(recipe: Sketch, images: int, batch: int) -> Iterator[tuple[Path, str]]:
    """What cannot work in a resolved recipe, with the path of the key to change below `recipe`."""
    table = timetable(recipe.growth, recipe.data.resolution, batch)
    if table.ends > images:
        yield (
            ("growth",),
            f"{recipe.data.resolution}x{recipe.data.resolution} has faded in only after {table.ends:,} images, but "
            f"training.images is {images:,}; shorten the phases, or train longer",
        )


def warnings(recipe: Sketch, batch: int) -> Iterator[str]:
    """What is allowed, but was regretted by people who wrote it."""
    loss = recipe.loss
    if loss.adversarial == "wgan" and not (loss.gradient_penalty.weight or loss.r1.gamma):
        yield "recipe.loss: wgan without a penalty: nothing bounds the critic; write gradient_penalty: {weight: 10}"
    if recipe.latent.source in ("z", "none") and not recipe.encoder.concatenate:
        yield "recipe: the generator is not told what was drawn so far: no code and no maps of the encoder reach it"
    if recipe.generator.norm_epsilon == 0:
        yield "recipe.generator.norm_epsilon is 0: a map without contrast becomes 0 / 0"
    table = timetable(recipe.growth, recipe.data.resolution, batch)
    for name, quantity, used in (
        ("label_noise.amount", recipe.label_noise.amount, recipe.label_noise.kind != "none"),
        ("instance_noise.deviation", recipe.instance_noise.deviation, recipe.instance_noise.applies_to != "none"),
    ):
        if used and (left := _left_at_growth(quantity, table)) is not None:
            yield f"recipe.{name}: {left}"


def _left_at_growth(quantity: Decaying, table: Timetable) -> str | None:
    """Where a quantity has all but decayed before new layers need it."""
    for begin in table.begins[1:]:
        moment = table.at(begin)
        if quantity.start and (value := quantity.at(begin, moment, table.batch)) < 0.1 * quantity.start:
            return (
                f"{value:.3g} of {quantity.start:g} is left when {moment.resolution}x{moment.resolution} begins, at "
                f"{begin:,} images; with clock: growth it would begin anew with each resolution"
            )
    return None
