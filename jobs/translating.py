"""Images of one domain through a checkpoint's translation into the other, file by file."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from jobs.data import Roots, archive_images, decode, folder_images
from jobs.data.decode import SUFFIXES, DecodeError
from jobs.errors import DataError
from jobs.recipes.translation import Translation
from jobs.report import pictures
from jobs.sampling import load_recipe
from jobs.spec import translation as spec
from jobs.spec.pairs import HeightMaps

Way = Literal["AB", "BA"]
CHUNK = 16


class Translated(NamedTuple):
    """What became of the images."""

    written: int
    skipped: tuple[tuple[str, str], ...]
    """Name and reason of each that could not be used."""


def translate_images(
    checkpoint: Path, images: Path, out: Path, way: Way = "AB", progress: Callable[[int, int], None] | None = None
) -> Translated:
    """Writes the translation of every image of `images` (a directory, a zip or one file) as PNG below `out`.

    Each is brought to the size, the channels and the fit that the checkpoint was trained with. A name keeps its
    directories. Raises DataError where there is nothing to translate, or the checkpoint translates no images that way.
    """
    section, recipe = _translation(checkpoint, way)
    skipped: list[tuple[str, str]] = []
    written = 0
    with _readers(images) as (_, read):
        if not read:
            raise DataError(f"{images}: no images here", hint=f"images end in {', '.join(sorted(SUFFIXES))}")
        every = list(read)
        for start in range(0, len(every), CHUNK):
            names = every[start : start + CHUNK]
            good, decoded = [], []
            for name in names:
                try:
                    decoded.append(_decoded(section, read[name]()))
                    good.append(name)
                except DecodeError as error:
                    skipped.append((name, str(error)))
            if good:
                made = recipe.translate(torch.from_numpy(np.stack(decoded)), way)
                _write(out, good, pictures.from_signed(made.float().cpu().numpy()))
            written += len(good)
            if progress is not None:
                progress(written + len(skipped), len(read))
    return Translated(written, tuple(skipped))


def _translation(checkpoint: Path, way: Way) -> tuple[spec.Translation, Translation]:
    job, recipe = load_recipe(checkpoint)
    if not isinstance(recipe, Translation) or not isinstance(job.recipe, spec.Translation):
        raise DataError(f"{checkpoint}: made by {job.recipe.kind}, which translates no images", hint="gankiln sample")
    if way not in recipe.ways:
        raise DataError(f"{checkpoint}: trained in pairs, from A to B only", hint="leave --way out")
    return job.recipe, recipe


def _decoded(section: spec.Translation, content: bytes) -> pictures.Images:
    data = section.data
    return decode(content, data.resolution, data.channels, "crop" if isinstance(data, HeightMaps) else data.fit)


def _readers(images: Path) -> AbstractContextManager[tuple[Any, dict[str, Callable[[], bytes]]]]:
    if images.is_file() and images.suffix.lower() in SUFFIXES:
        return _SingleFile(images)
    kind = archive_images if images.suffix.lower() == ".zip" else folder_images
    return kind(str(images), "IMAGES", Roots(Path.cwd()))


class _SingleFile(AbstractContextManager[tuple[Any, dict[str, Callable[[], bytes]]]]):
    """One image as a set of one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tuple[Any, dict[str, Callable[[], bytes]]]:
        return [], {self.path.name: self.path.read_bytes}

    def __exit__(self, *_: object) -> None:
        return None


def _write(out: Path, names: list[str], image_NCHW: pictures.Images) -> None:
    for target, image_CHW in zip(_targets(out, names), image_NCHW, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        pictures.write_image(target, image_CHW)


def _targets(out: Path, names: list[str]) -> Iterator[Path]:
    """Another suffix than .png stays in the name: a.jpg and a.png are two images."""
    for name in names:
        path = PurePosixPath(name)
        yield out / (path if path.suffix.lower() == ".png" else path.with_name(f"{path.name}.png"))
