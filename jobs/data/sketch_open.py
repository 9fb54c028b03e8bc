"""From a section of drawings to a SketchDataset: strokes are rasterised once and mapped from the cache from then on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

import numpy as np
import PIL
from numpy.typing import NDArray

from jobs.data.cache import EntryWriter, open_or_build
from jobs.data.content import content_digest
from jobs.data.dataset import ImagesU8, Skipped
from jobs.data.load import Progress
from jobs.data.part_stacks import PartArchive
from jobs.data.roots import Roots
from jobs.data.sketches import SketchDataset
from jobs.data.stroke_files import read_drawings, stroke_files
from jobs.data.strokes import Drawing, ranks, stack
from jobs.data.toybirds import Truth, hatch
from jobs.errors import DataError
from jobs.spec.sketch_data import DoodlerStrokes, PartStacks, QuickDraw, SketchData, StrokeData, ToyBirds

_FORMAT = 1
"""Of the rasters: raise it when the same strokes give other pixels."""
_BLOCK = 256
_SEEN_ONLY = ("mirror", "part", "partial", "augment")
"""Keys that change what is shown, not what is decoded."""


@dataclass(frozen=True)
class Sheets:
    """Drawings before they are rasterised."""

    name: str
    content: str
    """What they are a function of, beside the section."""
    rank_NP: NDArray[np.int8]
    raster: Callable[[int], ImagesU8]
    """The stack [P, R, R] of one drawing."""
    drawings: Sequence[Drawing] | None = None
    truth: Truth | None = None
    skipped: tuple[Skipped, ...] = ()


def open_sketches(
    section: SketchData, *, cache_dir: Path, roots: Roots, progress: Progress | None = None
) -> SketchDataset:
    """Every drawing of `section` as a stack uint8 [N, P, R, R], rasterised once.

    Raises SpecError where its path leads out of `roots`, DataError where it is missing, empty or damaged, or where no
    drawing has the part.
    """
    sheets = _sheets(section, cache_dir, roots)
    part = section.part_names.index(section.part)
    if not (sheets.rank_NP[:, part] >= 0).any():
        raise DataError(
            f"data.part: none of the {len(sheets.rank_NP)} drawings has the part {section.part!r}",
            hint="name a part that is drawn; every other part may be missing",
        )
    settings = section.model_dump(mode="json", exclude={"mirror", "path"})
    decoded = {name: value for name, value in settings.items() if name not in _SEEN_ONLY}
    key = _sha256(sheets.content, decoded, _FORMAT, PIL.__version__)
    chw = (len(section.part_names), section.resolution, section.resolution)
    entry = open_or_build(cache_dir, key, lambda directory: _write(directory, sheets, chw, progress))
    dataset = SketchDataset(
        name=sheets.name,
        digest=_sha256(sheets.content, settings),
        parts=section.part_names,
        part=part,
        partial=section.partial,
        stack_NPHW=entry.images_NCHW,
        rank_NP=sheets.rank_NP,
        skipped=sheets.skipped,
        truth=sheets.truth,
    )
    if isinstance(section, PartStacks) or not section.augment.any:
        return dataset
    return replace(dataset, drawings=sheets.drawings, line_width=section.line_width, augment=section.augment)


def _sheets(section: SketchData, cache_dir: Path, roots: Roots) -> Sheets:
    match section:
        case ToyBirds():
            flock = hatch(section)
            return _of_strokes("toybirds", "generated", flock.drawings, section, truth=flock.truth)
        case DoodlerStrokes() | QuickDraw():
            files = stroke_files(section, roots)
            content = content_digest(files, cache_dir / "digests")
            drawings, skipped = read_drawings(section, files)
            return _of_strokes(Path(section.path).stem, content, drawings, section, skipped=skipped)
        case PartStacks():
            archive = PartArchive(section, roots)
            content = content_digest([("zip", archive.path)], cache_dir / "digests")
            return Sheets(archive.path.stem, content, archive.ranks(), archive.raster)
        case _:
            assert_never(section)


def _of_strokes(
    name: str, content: str, drawings: Sequence[Drawing], section: StrokeData, *,
    truth: Truth | None = None, skipped: tuple[Skipped, ...] = (),
) -> Sheets:  # fmt: skip
    """Drawings that are known by their strokes."""
    parts = len(section.part_names)
    return Sheets(
        name,
        content,
        np.stack([ranks(drawing, parts) for drawing in drawings]),
        lambda index: stack(drawings[index], parts, section.resolution, section.line_width),
        drawings,
        truth,
        skipped,
    )


def _write(directory: Path, sheets: Sheets, chw: tuple[int, int, int], progress: Progress | None) -> None:
    count = len(sheets.rank_NP)
    with EntryWriter(directory, chw) as writer:
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            writer.add(np.stack([sheets.raster(index) for index in range(start, stop)]))
            if progress is not None:
                progress(stop, count)
        writer.finish(labels_N=None, modes_N=None, class_names=(), skipped=())


def _sha256(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
