"""IDX files, as MNIST has them: 0 0 TYPE RANK, then RANK big-endian sizes, then the numbers. Plain or gzip.

Images are unsigned bytes [N, height, width]. Where they must be scaled, the whole block is, by one matrix for the rows
and one for the columns (the same Lanczos filter as for other images); `pad` of a smaller image copies its pixels.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.data.dataset import ImagesU8
from jobs.data.decode import place
from jobs.data.roots import Roots
from jobs.data.source import CHOSEN_AFTERWARDS, Block, Items, Source, spread
from jobs.errors import DataError
from jobs.spec.data import CHANNEL_COUNT, IdxFiles

MAX_UNPACKED_BYTES = 8 << 30
"""Of a gzip file, which must be unpacked into memory; a plain file is mapped and may be of any size."""
MAX_SIDE = 8192
_LANCZOS_LOBES = 3.0


def idx_source(section: IdxFiles, roots: Roots) -> Source:
    """The files of `section`; does not open them."""
    files = [("images", roots.locate(section.images, "data.images"))]
    if section.labels and section.labels_file is not None:
        files.append(("labels", roots.locate(section.labels_file, "data.labels_file")))
    for name, path in files:
        if not path.is_file():
            raise DataError(f"data.{name}: {path.name!r} is not a file")
    settings = section.model_dump(exclude={"images", "labels_file", "mirror", *CHOSEN_AFTERWARDS})
    return Source(files[0][1].name.split(".")[0], settings, lambda: _open(section, dict(files)), files)


@contextmanager
def _open(section: IdxFiles, files: dict[str, Path]) -> Iterator[Items]:
    every_NHW = read_idx(files["images"], rank=3)
    chosen = np.asarray(spread(len(every_NHW), section.max_images))
    labels_N, classes = None, tuple[str, ...]()
    if "labels" in files:
        every_label_N = read_idx(files["labels"], rank=1)
        if len(every_label_N) != len(every_NHW):
            raise DataError(
                f"data.labels_file: {len(every_label_N)} labels for {len(every_NHW)} images; are both of the same part?"
            )
        labels_N = every_label_N[chosen].astype(np.int64)
        classes = tuple(str(label) for label in range(int(labels_N.max()) + 1))

    def decode(start: int, stop: int) -> Block:
        images_NHW = fit_images(every_NHW[chosen[start:stop]], section)
        images_NCHW = np.repeat(images_NHW[:, None], CHANNEL_COUNT[section.channels], axis=1)
        if section.channels == "rgba":
            images_NCHW[:, 3] = 255
        return Block(images_NCHW, np.ones(stop - start, dtype=np.bool_), [])

    yield Items(len(chosen), decode, labels_N, class_names=classes)


def read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file, mapped where it is not packed. Raises DataError."""
    what = f"data: {path.name!r}"
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            shape = _shape(file.read(4 + 4 * rank), rank, what)
            if not packed:
                _check_size(path.stat().st_size - (4 + 4 * rank), shape, what)
                return np.memmap(path, np.uint8, "r", 4 + 4 * rank, shape)
            if math.prod(shape) > MAX_UNPACKED_BYTES:
                raise DataError(
                    f"{what} unpacks to {math.prod(shape)} bytes", hint="unpack it, and give the plain file"
                )
            data = file.read(math.prod(shape) + 1)
            _check_size(len(data), shape, what)
            return np.frombuffer(data, np.uint8).reshape(shape)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{what} cannot be read: {error}") from None


def _shape(header: bytes, rank: int, what: str) -> tuple[int, ...]:
    wanted = bytes([0, 0, 8, rank])
    if header[:4] != wanted or len(header) < 4 + 4 * rank:
        raise DataError(
            f"{what} does not begin as an IDX file of unsigned bytes with {rank} axes does: "
            f"{wanted.hex(' ')} was expected, it has {header[:4].hex(' ') or 'nothing'}"
        )
    shape = tuple(int.from_bytes(header[4 + 4 * axis : 8 + 4 * axis]) for axis in range(rank))
    if 0 in shape or max(shape[1:], default=1) > MAX_SIDE:
        raise DataError(f"{what} holds nothing that can be used: its sizes are {shape}")
    return shape


def _check_size(actual: int, shape: tuple[int, ...], what: str) -> None:
    if actual != math.prod(shape):
        size = " x ".join(map(str, shape))
        fault = "cut short" if actual < math.prod(shape) else "longer than its header says"
        raise DataError(f"{what} is {fault}: {size} needs {math.prod(shape)} bytes")


def fit_images(images_NHW: NDArray[np.uint8], section: IdxFiles) -> ImagesU8:
    """A block of grey images as [N, R, R], by the rules of decode.py."""
    count, height, width = images_NHW.shape
    box, wide, high, left, top = place(width, height, section.resolution, section.fit)
    if (wide, high) != (width, height) or box != (0, 0, width, height):
        rows_HR = lanczos(height, high, box[1], box[3])
        columns_WR = lanczos(width, wide, box[0], box[2])
        images_NHW = (rows_HR.T @ (images_NHW @ columns_WR) + 0.5).clip(0, 255).astype(np.uint8)
    if (wide, high) == (section.resolution, section.resolution):
        return images_NHW
    padded = np.zeros((count, section.resolution, section.resolution), np.uint8)
    padded[:, top : top + high, left : left + wide] = images_NHW
    return padded


def lanczos(size: int, to: int, start: float, stop: float) -> NDArray[np.float32]:
    """Weights [size, to] that scale start..stop of an axis to `to` samples: Lanczos-3, widened when it gets smaller.

    Samples sit in the middle of pixels; weights sum to 1, also at the borders.
    """
    scale = (stop - start) / to
    widened = max(scale, 1.0)
    centre = start + (np.arange(to) + 0.5) * scale
    distance = (np.arange(size)[:, None] + 0.5 - centre) / widened
    weight = np.where(abs(distance) < _LANCZOS_LOBES, np.sinc(distance) * np.sinc(distance / _LANCZOS_LOBES), 0.0)
    normalised: NDArray[np.float32] = (weight / weight.sum(axis=0)).astype(np.float32)
    return normalised
