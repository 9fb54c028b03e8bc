"""Write a generated set as a zip in the StyleGAN format, for other tools and other eyes."""

import io
import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path

from PIL import Image

from jobs.data.dataset import ImagesU8
from jobs.data.labels import FILE_NAME
from jobs.data.modegrid import generate, mode_names
from jobs.errors import DataError
from jobs.spec.data import ModeGrid

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time a zip can say: the same set is the same bytes, whenever it is written."""


def make_zip(section: ModeGrid, out: Path) -> Path:
    """Write the set to `out` (a name ending in .zip, or a directory, which gets modegrid.zip) and give the file's path.

    Entries are 00000/img00000000.png ... and dataset.json with the mode of each as label. Raises DataError where it
    cannot be written.
    """
    path = out if out.suffix == ".zip" else out / f"{section.kind}.zip"
    images_NCHW, mode_N = generate(section)
    names = [f"{index // 1000:05d}/img{index:08d}.png" for index in range(len(images_NCHW))]
    table = {"labels": list(zip(names, mode_N.tolist(), strict=True)), "class_names": mode_names(section)}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(aside, "w") as archive:  # stored: PNG is packed already
            for name, image_CHW in zip(names, images_NCHW, strict=True):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), _png(image_CHW))
            archive.writestr(zipfile.ZipInfo(FILE_NAME, _EPOCH), json.dumps(table))
        aside.replace(path)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            aside.unlink()
    return path


def _png(image_CHW: ImagesU8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_CHW.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()
