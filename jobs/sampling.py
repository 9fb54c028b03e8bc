"""Pictures from a checkpoint, without its data and without its discriminator."""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from jobs import recipes
from jobs.errors import DataError
from jobs.report import pictures
from jobs.spec import Job
from jobs.training import state
from jobs.training.device import choose_device
from jobs.training.recipe import Known, Recipe

GENERATOR = "generator.safetensors"


def draw(checkpoint: Path, count: int, seed: int, truncation_psi: float | None = None) -> NDArray[np.uint8]:
    """`count` pictures [count, C, H, W] of the averaged generator in `checkpoint`.

    Raises what `load_recipe` raises.
    """
    _, recipe = load_recipe(checkpoint, truncation_psi)
    with torch.no_grad():
        return pictures.from_signed(recipe.show(count, seed).float().cpu().numpy())


def load_recipe(checkpoint: Path, truncation_psi: float | None = None) -> tuple[Job, Recipe]:
    """The job of `checkpoint`, and its recipe with the averaged generator's weights in it, to draw from.

    `checkpoint` is a checkpoint directory, a run directory (its newest checkpoint) or a generator.safetensors alone.
    Nothing in it is executed. Raises DataError where it is damaged or no checkpoint.
    """
    path = _weights(checkpoint)
    device = choose_device("auto")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        job = Job.model_validate(json.loads(metadata["spec"]))
        known = Known(tuple(int(count) for count in json.loads(metadata["labels"])))
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(str(part) for part in wrong["loc"])
        raise DataError(
            f"{path}: the spec in it is none of this version ({where}: {wrong['msg']})",
            hint="use the version of gankiln that trained it",
        ) from error
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a generator that gankiln wrote ({_first_line(error)})") from error
    if truncation_psi is not None:
        job = job.model_copy(update={"recipe": job.recipe.model_copy(update={"truncation_psi": truncation_psi})})
    recipe = recipes.build(job, known, "fp32", device)
    try:
        recipe.generator_ema.load_state_dict({name: tensor.to(device) for name, tensor in weights.items()})
    except RuntimeError as error:
        raise DataError(f"{path}: its weights do not fit the spec in it ({_first_line(error)})") from error
    return job, recipe


def metadata_of(checkpoint: Path) -> dict[str, str]:
    """What is written beside the weights: the spec, images in each class, names of the classes, images shown."""
    with safe_open(_weights(checkpoint), framework="pt", device="cpu") as file:
        return dict(file.metadata() or {})


def _weights(path: Path) -> Path:
    """The file of weights that `path` means, its checkpoint verified where there is a manifest."""
    if path.is_file():
        return path
    if newest := state.complete(path / "checkpoints"):
        path = newest[-1].path
    if not (path / GENERATOR).is_file():
        raise DataError(
            f"{path}: no checkpoint here",
            hint="give a run directory, or one of its checkpoints/NNNNNNNNN, or a generator.safetensors",
        )
    state.verify(path)
    return path / GENERATOR


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
