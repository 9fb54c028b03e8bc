"""Checkpoints: written aside, verified, renamed; read back without executing anything.

    checkpoints/000012800/
        state.pt                every part of the recipe and the progress; `weights_only=True` loads it
        generator.safetensors   weights of the EMA generator; the resolved recipe is in its metadata
        MANIFEST.json           sha256 and size of both, images shown; written last

A checkpoint exists when its MANIFEST.json does: a kill at any moment leaves the previous one as the newest.
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from jobs.errors import DataError, GankilnError, StoreError
from jobs.training.recipe import Recipe

FORMAT = 1
MANIFEST = "MANIFEST.json"


@dataclass
class Progress:
    """How far a run is. `images` is the clock; `seconds` is the time spent training, over all attempts."""

    images: int = 0
    seconds: float = 0.0
    attempts: int = 0
    diagnosis: dict[str, Any] = field(default_factory=dict)
    """What the run's detectors must know of earlier checks, in plain values."""
    fitted: dict[str, Any] = field(default_factory=dict)
    """How the job was fitted into memory: `micro_batch`, `recompute`; empty where it was not."""
    tuned: dict[str, bool] = field(default_factory=dict)
    """Which way each layer is computed that left it open, by its path: see jobs/tuning.py."""
    time_seconds: dict[str, float] = field(default_factory=dict)
    """Where the time from the first to the last step went, over all attempts: training, waiting, samples, checks,
    evaluation, checkpoints."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was written completely."""

    path: Path
    images: int
    size_bytes: int


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment, copied to main memory: training may go on while it is written."""

    progress: dict[str, Any]
    parts: dict[str, Any]
    generator: dict[str, torch.Tensor]
    metadata: dict[str, str]

    @property
    def images(self) -> int:
        """Where it was taken."""
        return int(self.progress["images"])


def snapshot(progress: Progress, recipe: Recipe, metadata: Mapping[str, str]) -> Snapshot:
    """Everything that a checkpoint of `recipe` at `progress` holds."""
    parts = {name: _copied(part.state_dict()) for name, part in recipe.parts.items()}
    generator = _copied(recipe.generator_ema.state_dict())
    return Snapshot(copy.deepcopy(asdict(progress)), parts, generator, dict(metadata))


def _copied(value: Any) -> Any:
    """Nested `value` with every tensor copied to main memory."""
    match value:
        case torch.Tensor():
            return value.detach().to("cpu", copy=True).contiguous()
        case dict():
            return {key: _copied(inner) for key, inner in value.items()}
        case list():
            return [_copied(inner) for inner in value]
        case tuple():
            return tuple(_copied(inner) for inner in value)
        case _:
            return value


def save(folder: Path, taken: Snapshot, *, keep: int, spare: int | None = None) -> Checkpoint:
    """Writes a checkpoint below `folder`; deletes all but the newest `keep` and that at `spare` images.

    Raises StoreError when the disk is full.
    """
    final = folder / f"{taken.images:09d}"
    aside = folder / f".writing-{taken.images:09d}"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        with (aside / "state.pt").open("wb") as file:
            torch.save({"format": FORMAT, "progress": taken.progress, "parts": taken.parts}, file)
            _sync(file.fileno())
        save_file(taken.generator, aside / "generator.safetensors", metadata=taken.metadata)
        _write_manifest(aside, taken.images)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise StoreError(
            f"the checkpoint at {taken.images} images could not be written: {error.strerror}",
            hint="free some space, or lower training.checkpoints_kept; the previous checkpoint is intact",
        ) from error
    for old in complete(folder)[:-keep]:
        if old.images != spare:
            shutil.rmtree(old.path, ignore_errors=True)
    return Checkpoint(final, taken.images, sum(file.stat().st_size for file in final.iterdir()))


def restore(folder: Path, recipe: Recipe) -> tuple[Progress, list[str]]:
    """Loads the newest intact checkpoint below `folder` into `recipe`; progress 0 where there is none.

    Returns the progress and a sentence for each checkpoint that was passed over because its files are damaged.
    """
    passed_over = []
    for checkpoint in reversed(complete(folder)):
        try:
            state = load_verified(checkpoint.path)
        except DataError as error:
            passed_over.append(f"{error.message}; going on from an earlier checkpoint")
            continue
        _load_parts(state["parts"], recipe, checkpoint.path)
        return Progress(**state["progress"]), passed_over
    return Progress(), passed_over


def begin_anew(recipe: Recipe, fresh: Recipe) -> None:
    """Makes `recipe` what its twin `fresh` is: as before the first step."""
    parts = fresh.parts
    for name, part in recipe.parts.items():
        part.load_state_dict(parts[name].state_dict())


def complete(folder: Path) -> list[Checkpoint]:
    """Every checkpoint below `folder` that has its manifest, oldest first."""
    found = []
    for path in folder.glob("[0-9]" * 9):
        manifest = _manifest(path)
        if manifest is not None:
            size_bytes = sum(int(entry["bytes"]) for entry in manifest["files"].values())
            found.append(Checkpoint(path, int(manifest["images"]), size_bytes))
    return sorted(found, key=lambda checkpoint: checkpoint.images)


def load_verified(path: Path) -> dict[str, Any]:
    """`state.pt` of the checkpoint at `path`, checked against its manifest; never executes code.

    Raises DataError when a file is missing, damaged, or of another format.
    """
    verify(path)
    try:
        state: dict[str, Any] = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here; whatever it is, the file is not ours
        raise DataError(f"{path / 'state.pt'}: not a checkpoint that can be loaded safely ({error})") from error
    if state.get("format") != FORMAT:
        raise DataError(f"{path}: checkpoint format {state.get('format')!r}, this version reads {FORMAT}")
    return state


def verify(path: Path) -> None:
    """Raises DataError unless every file of the checkpoint at `path` has the size and sha256 of its manifest."""
    manifest = _manifest(path)
    if manifest is None:
        raise DataError(f"{path}: no readable {MANIFEST}, so the checkpoint was never finished")
    for name, entry in manifest["files"].items():
        file = path / Path(name).name
        if not file.is_file() or file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
            raise DataError(f"{file}: missing or damaged (its sha256 is not the manifest's)")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return manifest if {"images", "files"} <= manifest.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _write_manifest(folder: Path, images: int) -> None:
    files = {file.name: {"sha256": sha256(file), "bytes": file.stat().st_size} for file in sorted(folder.iterdir())}
    content = json.dumps({"format": FORMAT, "images": images, "files": files}, indent=1)
    with (folder / MANIFEST).open("w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        _sync(stream.fileno())


def _load_parts(states: Mapping[str, Any], recipe: Recipe, path: Path) -> None:
    if states.keys() != recipe.parts.keys():
        raise DataError(
            f"{path}: holds {', '.join(sorted(states))}; the recipe needs {', '.join(sorted(recipe.parts))}",
            hint="the run directory belongs to another spec; use a new --out",
        )
    for name, part in recipe.parts.items():
        try:
            part.load_state_dict(states[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise _other_spec(path, name, error) from error


def _other_spec(path: Path, name: str, error: Exception) -> GankilnError:
    return DataError(
        f"{path}: the state of {name} does not fit the spec ({str(error).splitlines()[0]})",
        hint="the run directory belongs to another spec; use a new --out",
    )


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
