"""Small pictures and archives for the tests of jobs.data."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jobs.data import Roots
from jobs.data.load import open_dataset


def picture(seed: int, width: int = 8, height: int = 8, mode: str = "RGB") -> Image.Image:
    """Noise, so that no two pictures are alike."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int, width: int = 8, height: int = 8) -> bytes:
    return encoded(picture(seed, width, height))


def write_zip(path: Path, entries: Mapping[str, bytes], labels: Any = ..., method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        if labels is not ...:
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


def write_folder(path: Path, entries: Mapping[str, bytes]) -> Path:
    for name, data in entries.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def pngs(count: int) -> dict[str, bytes]:
    return {f"{index // 10:05d}/img{index:08d}.png": png(index) for index in range(count)}


def opened(section: Any, tmp_path: Path, **options: Any) -> Any:
    return open_dataset(section, cache_dir=tmp_path / "cache", roots=Roots(tmp_path), **options)
