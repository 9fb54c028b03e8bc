"""Rasters of parts in a zip: DRAWING/NN-PART.png, dark ink on light paper, NN its place in the order of drawing."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np

from jobs.data.archive import check_entries
from jobs.data.dataset import ImagesU8
from jobs.data.decode import DecodeError, decode
from jobs.data.make import EPOCH, png
from jobs.data.roots import Roots
from jobs.data.source import printable, spread
from jobs.data.strokes import Drawing, stack
from jobs.data.toybirds import hatch
from jobs.errors import DataError
from jobs.files import replacing
from jobs.spec.sketch_data import PartStacks, ToyBirds

_NAME = re.compile(r"(?:.*/)?([^/]+)/(\d+)-([a-z][a-z0-9_]*)\.png")
MADE_RESOLUTION = 64


class PartArchive:
    """The drawings of a zip; open until it is dropped. Raises DataError where it is no such archive."""

    def __init__(self, section: PartStacks, roots: Roots) -> None:
        self.path = roots.locate(section.path, "data.path")
        self.section, self.what = section, f"data.path: {section.path!r}"
        try:
            self.archive = zipfile.ZipFile(self.path)
            check_entries(self.archive.infolist(), self.path.stat().st_size, self.what)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise DataError(f"{self.what} is not a zip, or is cut short: {error}") from None
        drawings = self._drawings()
        names = sorted(drawings)
        self.entries = [drawings[names[index]] for index in spread(len(names), section.max_drawings)]

    def _drawings(self) -> dict[str, list[tuple[int, int, str]]]:
        """By drawing: (place, number of the part, entry), in the order of drawing."""
        numbers = {name: number for number, name in enumerate(self.section.parts)}
        found: dict[str, list[tuple[int, int, str]]] = {}
        for name in self.archive.namelist():
            if (match := _NAME.fullmatch(name)) is None:
                continue
            drawing, place, part = match.groups()
            if part not in numbers:
                raise DataError(
                    f"{self.what}: {printable(name)} is the part {part!r}, which data.parts does not list",
                    hint=f"data.parts lists {', '.join(numbers)}",
                )
            found.setdefault(drawing, []).append((int(place), numbers[part], name))
        if not found:
            raise DataError(f"{self.what} holds no DRAWING/NN-PART.png")
        return {drawing: sorted(entries) for drawing, entries in found.items()}

    def ranks(self) -> np.ndarray:
        """Place of each part in the order of drawing, [N, P], -1 where there is none."""
        rank_NP = np.full((len(self.entries), len(self.section.parts)), -1, np.int8)
        for row, entries in enumerate(self.entries):
            for place, (_, part, _) in enumerate(entries):
                rank_NP[row, part] = place
        return rank_NP

    def raster(self, index: int) -> ImagesU8:
        """The stack of one drawing, [P, R, R], ink 255."""
        side = self.section.resolution
        raster_PHW = np.zeros((len(self.section.parts), side, side), np.uint8)
        for _, part, name in self.entries[index]:
            try:
                paper_1HW = decode(self.archive.read(name), side, "grey", "stretch")
            except (DecodeError, zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
                raise DataError(f"{self.what}: {printable(name)} cannot be read: {error}") from None
            raster_PHW[part] = np.maximum(raster_PHW[part], 255 - paper_1HW[0])
        return raster_PHW


def make_stacks(section: ToyBirds, out: Path) -> Path:
    """Write a set of birds to `out` (a name ending in .zip, or a directory, which gets toybirds.zip).

    Beside the parts there is truth.json: the geometry of every bird, in units of a canvas of 512 with a margin of 24.
    Raises DataError where it cannot be written.
    """
    path = out if out.suffix == ".zip" else out / "toybirds.zip"
    flock = hatch(section)
    try:
        with replacing(path) as aside, zipfile.ZipFile(aside, "w") as archive:  # stored: PNG is packed already
            for index, drawing in enumerate(flock.drawings):
                for name, picture_1HW in _pictures(section, index, drawing):
                    archive.writestr(zipfile.ZipInfo(name, EPOCH), png(picture_1HW))
            truth = {name: array.tolist() for name, array in vars(flock.truth).items()}
            archive.writestr(zipfile.ZipInfo("truth.json", EPOCH), json.dumps(truth))
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    return path


def _pictures(section: ToyBirds, index: int, drawing: Drawing) -> list[tuple[str, ImagesU8]]:
    raster_PHW = stack(drawing, len(section.part_names), section.resolution, section.line_width)
    return [
        (f"{index:06d}/{place:02d}-{section.part_names[part]}.png", 255 - raster_PHW[part : part + 1])
        for place, part in enumerate(drawing.order)
    ]
