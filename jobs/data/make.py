"""Write a generated set as a zip in the StyleGAN format, for other tools and other eyes."""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, assert_never

from PIL import Image

from jobs.data import modegrid, planted
from jobs.data.dataset import ImagesU8, LabelsI64
from jobs.data.heightmaps import draw_pair
from jobs.data.labels import FILE_NAME
from jobs.errors import DataError
from jobs.files import replacing
from jobs.spec.data import ModeGrid, PlantedAttributes
from jobs.spec.pairs import HeightMaps

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time a zip can say: the same set is the same bytes, whenever it is written."""


def make_zip(section: ModeGrid | PlantedAttributes, out: Path) -> Path:
    """Write the set to `out` (a name ending in .zip, or a directory, which gets KIND.zip) and give the file's path.

    Entries are 00000/img00000000.png ... and dataset.json with the class of each as label (of ModeGrid: its mode).
    Raises DataError where it cannot be written.
    """
    path = out if out.suffix == ".zip" else out / f"{section.kind}.zip"
    images_NCHW, labels_N, class_names, truth = _generated(section)
    names = [f"{index // 1000:05d}/img{index:08d}.png" for index in range(len(images_NCHW))]
    table = {"labels": list(zip(names, labels_N.tolist(), strict=True)), "class_names": class_names, **truth}
    return _write(path, zip(names, images_NCHW, strict=True), table)


def make_pairs(section: HeightMaps, out: Path) -> tuple[Path, Path]:
    """Write both domains to `out` as zips, heightmaps-a.zip and heightmaps-b.zip: counterparts have the same name.

    Raises DataError where they cannot be written.
    """
    count = section.images
    names = [f"{index // 1000:05d}/img{index:08d}.png" for index in range(count)]

    def images(domain: int) -> Iterator[tuple[str, ImagesU8]]:
        for index, name in enumerate(names):
            yield name, draw_pair(section.seed, index, section.resolution)[4 * domain : 4 * domain + 4]

    a, b = (_write(out / f"{section.kind}-{name}.zip", images(domain), None) for domain, name in enumerate("ab"))
    return a, b


def _write(path: Path, images: Iterable[tuple[str, ImagesU8]], table: dict[str, Any] | None) -> Path:
    try:
        with replacing(path) as aside, zipfile.ZipFile(aside, "w") as archive:  # stored: PNG is packed already
            for name, image_CHW in images:
                archive.writestr(zipfile.ZipInfo(name, EPOCH), png(image_CHW))
            if table is not None:
                archive.writestr(zipfile.ZipInfo(FILE_NAME, EPOCH), json.dumps(table))
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    return path


def _generated(
    section: ModeGrid | PlantedAttributes,
) -> tuple[ImagesU8, LabelsI64, tuple[str, ...], dict[str, Any]]:
    """Images, classes, names of the classes, and what else is known of every image."""
    match section:
        case ModeGrid():
            return *modegrid.generate(section), modegrid.mode_names(section), {}
        case PlantedAttributes():
            images_NCHW, level_NA = planted.generate(section)
            known = {"attributes": planted.ATTRIBUTES, "levels": level_NA.tolist()}
            return images_NCHW, planted.classes(level_NA, section), planted.CLASS_NAMES, known
        case _:
            assert_never(section)


def png(image_CHW: ImagesU8) -> bytes:
    """One picture as a PNG file, grey or RGB."""
    file = io.BytesIO()
    Image.fromarray(image_CHW[0] if len(image_CHW) == 1 else image_CHW.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()
