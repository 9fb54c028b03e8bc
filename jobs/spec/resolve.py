"""Fills what a spec leaves open, and says of every value it fills by which formula.

`resolve` is idempotent: a resolved spec resolves to itself, so the `spec.yaml` of a run can be submitted again.
What one recipe leaves open is filled in jobs/spec/RECIPE_resolve.py; a new recipe is a case in each `match` here.
"""

from collections.abc import Iterator
from typing import assert_never

from jobs.spec import (
    decay,
    sketch_resolve,
    stylegan2_resolve,
    stylex_resolve,
    talking_face_resolve,
    translation_resolve,
)
from jobs.spec.fill import Derived, fill, multiple
from jobs.spec.job import Job, Recipe, Training
from jobs.spec.sketch import Sketch
from jobs.spec.stylegan2 import StyleGAN2
from jobs.spec.stylex import StylEx
from jobs.spec.talking_face import TalkingFace
from jobs.spec.translation import Translation
from jobs.spec.yaml_tree import Path


def resolve(job: Job) -> tuple[Job, tuple[Derived, ...]]:
    """`job` with every open value filled, and what was filled."""
    notes: list[Derived] = []
    default, formula = _default_batch(job.recipe, job.training.batch)
    batch = job.training.batch or default
    training = fill(
        job.training,
        "training",
        {
            "batch": (default, formula),
            "micro_batch": _default_micro_batch(batch, job.training.devices),
            "sample_images": (multiple(job.training.images // 20, batch), "images / 20, in whole batches"),
            "checkpoint_images": (
                multiple(min(job.training.images // 10, 200_000), batch),
                "min(images / 10, 200,000), in whole batches",
            ),
        },
        notes,
    )
    recipe = _resolve_recipe(job.recipe, job.training.images, batch, notes)
    diagnosis = job.diagnosis
    if isinstance(recipe, Sketch):
        training = fill(training, "training", {"precision": ("fp32", "a sketch computes in float32")}, notes)
        grace = sketch_resolve.grace(recipe, job.training.images, batch)
        diagnosis = fill(diagnosis, "diagnosis", {"grace_images": grace}, notes)
    update = {"training": training, "recipe": recipe, "diagnosis": diagnosis}
    return job.model_copy(update=update), tuple(notes)


def conflicts(job: Job) -> Iterator[tuple[Path, str]]:
    """What is wrong with a resolved job as a whole, with the path of the key to change."""
    batch, micro_batch = job.training.batch, job.training.micro_batch
    assert batch is not None and micro_batch is not None, "conflicts() takes a resolved job"
    if batch % micro_batch:
        yield ("training", "micro_batch"), f"{micro_batch} does not divide the batch of {batch}"
    yield from _conflicts_of_devices(job, batch, micro_batch)
    if isinstance(job.recipe, Sketch) and job.training.precision != "fp32":
        yield ("training", "precision"), f"{job.training.precision} is asked for, but a sketch computes in fp32"
    if job.training.compile and not isinstance(job.recipe, StyleGAN2 | StylEx):
        yield ("training", "compile"), f"{job.recipe.kind} cannot be compiled; only stylegan2 and stylex can"
    if job.training.cuda_graphs and not job.training.compile:
        yield ("training", "cuda_graphs"), "only what is compiled can be recorded: write compile: true beside it"
    for path, message in _conflicts_of_recipe(job.recipe, job.training, micro_batch):
        yield ("recipe", *path), message


def _conflicts_of_devices(job: Job, batch: int, micro_batch: int) -> Iterator[tuple[Path, str]]:
    devices = job.training.devices
    if devices == 1:
        return
    if batch % devices:
        yield ("training", "devices"), f"{devices} devices cannot share a batch of {batch} equally"
    elif batch // devices % micro_batch:
        yield (
            ("training", "micro_batch"),
            f"{micro_batch} does not divide the {batch // devices} images that each of {devices} devices gets",
        )
    elif not _alike(job.recipe, micro_batch):
        yield (
            ("training", "devices"),
            f"this recipe looks at more than {micro_batch} images of a batch together (batch normalisation, noise that "
            "a batch shares, or groups of the minibatch deviation or of path lengths), so devices cannot share a batch",
        )


def micro_batches(job: Job) -> tuple[int, ...]:
    """Micro-batches of a resolved job that give the gradients of the one it has, the largest first."""
    share, asked = job.training.share, job.training.micro_batch
    assert asked is not None, "a resolved spec"
    return tuple(
        size
        for size in range(asked, 0, -1)
        if share % size == 0 and (size == asked or (_alike(job.recipe, size) and not any(conflicts(_with(job, size)))))
    )


def _with(job: Job, micro_batch: int) -> Job:
    return job.model_copy(update={"training": job.training.model_copy(update={"micro_batch": micro_batch})})


def _alike(recipe: Recipe, micro_batch: int) -> bool:
    """Whether nothing in `recipe` looks at more than `micro_batch` images together."""
    match recipe:
        case StyleGAN2():
            return stylegan2_resolve.alike(recipe, micro_batch)
        case TalkingFace():
            return talking_face_resolve.alike(recipe)
        case Translation():
            return translation_resolve.alike(recipe)
        case StylEx():
            return stylex_resolve.alike(recipe, micro_batch)
        case Sketch():
            return sketch_resolve.alike(recipe, micro_batch)
        case _:
            assert_never(recipe)


def warnings(job: Job) -> Iterator[str]:
    """What is allowed, but was regretted by people who wrote it."""
    recipe = job.recipe
    match recipe:
        case StyleGAN2():
            yield from stylegan2_resolve.warnings(recipe)
        case TalkingFace():
            yield from talking_face_resolve.warnings(recipe, job.training.images)
        case Translation():
            yield from translation_resolve.warnings(recipe, job.training.images)
        case StylEx():
            yield from stylex_resolve.warnings(recipe)
        case Sketch():
            assert job.training.batch is not None, "a resolved spec"
            yield from sketch_resolve.warnings(recipe, job.training.batch)
        case _:
            assert_never(recipe)


def outlook(job: Job) -> Iterator[str]:
    """What a resolved job will do as its clock advances, in sentences: rates at the end, terms that come and go."""
    if isinstance(job.recipe, TalkingFace):
        yield from talking_face_resolve.outlook(job.recipe, job.training.images)
    if isinstance(job.recipe, Translation):
        falls = decay.sentence(job.recipe.optimizer.decay, job.training.images)
        yield f"learning rate: {job.recipe.optimizer.learning_rate:g}; it {falls}"


def _default_batch(recipe: Recipe, written: int | None) -> tuple[int, str]:
    match recipe:
        case StyleGAN2():
            return stylegan2_resolve.default_batch(recipe, written)
        case TalkingFace():
            return talking_face_resolve.default_batch(recipe)
        case Translation():
            return translation_resolve.default_batch()
        case StylEx():
            return stylex_resolve.DEFAULT_BATCH
        case Sketch():
            return sketch_resolve.BATCH, "every sketch"
        case _:
            assert_never(recipe)


def _default_micro_batch(batch: int, devices: int) -> tuple[int, str]:
    if devices > 1 and batch % devices == 0:
        return batch // devices, "batch / devices: no accumulation"
    return batch, "batch: no accumulation"


def _resolve_recipe(recipe: Recipe, images: int, batch: int, notes: list[Derived]) -> Recipe:
    match recipe:
        case StyleGAN2():
            return stylegan2_resolve.resolve(recipe, batch, notes)
        case TalkingFace():
            return talking_face_resolve.resolve(recipe, notes)
        case Translation():
            return translation_resolve.resolve(recipe, images, notes)
        case StylEx():
            return stylex_resolve.resolve(recipe, notes)
        case Sketch():
            return sketch_resolve.resolve(recipe, images, batch, notes)
        case _:
            assert_never(recipe)


def _conflicts_of_recipe(recipe: Recipe, training: Training, micro_batch: int) -> Iterator[tuple[Path, str]]:
    match recipe:
        case StyleGAN2():
            return stylegan2_resolve.conflicts(recipe, micro_batch)
        case TalkingFace():
            return talking_face_resolve.conflicts(recipe)
        case Translation():
            return translation_resolve.conflicts(recipe, micro_batch)
        case StylEx():
            return stylex_resolve.conflicts(recipe, micro_batch)
        case Sketch():
            assert training.batch is not None, "a resolved spec"
            return sketch_resolve.conflicts(recipe, training.images, training.batch)
        case _:
            assert_never(recipe)
