"""How fast images come: python -m tests.benchmarks.bench_data

Prints images/s of decoding (folder, zip, IDX, drawing ModeGrid) into an empty cache, the time to open a full one, and
images/s of the stream and of the matcher.
"""

import io
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jobs.data import Roots, assign_modes, batches, open_dataset
from jobs.spec.data import IdxFiles, ImageFolder, ImageZip, ModeGrid

JPEGS, JPEG_SIDE = 500, 512


def main() -> None:
    print(f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        write_photos(here)
        write_idx(here / "idx", 60_000)
        sections: dict[str, Any] = {
            "zip, 28 -> 32 grey PNG": ImageZip(
                path="shipped:fashion-mnist-5000", resolution=32, channels="grey", fit="pad", labels=True
            ),
            f"folder, {JPEG_SIDE} -> 64 RGB JPEG": ImageFolder(path="photos", resolution=64),
            f"zip, {JPEG_SIDE} -> 256 RGB JPEG": ImageZip(path="photos.zip", resolution=256),
            "idx, 28 -> 32 padded": IdxFiles(images="idx", resolution=32, channels="grey", fit="pad"),
            "idx, 28 -> 32 scaled": IdxFiles(images="idx", resolution=32, channels="grey", fit="stretch"),
            "modegrid, drawn at 32": ModeGrid(),
        }
        for title, section in sections.items():
            measure(title, section, here)
        matcher(here)


def measure(title: str, section: Any, here: Path) -> None:
    roots, cache = Roots(here), here / "cache"
    dataset, first_seconds = timed(lambda: open_dataset(section, cache_dir=cache, roots=roots))
    dataset, again_seconds = timed(lambda: open_dataset(section, cache_dir=cache, roots=roots))
    stream = batches(dataset, batch=64, seed=0, images=0, mirror=True)
    next(stream)
    count = max(20, min(2000, (1 << 30) // dataset.images_NCHW[:64].nbytes // 8))
    _, stream_seconds = timed(lambda: [None for _ in islice(stream, count)])
    stream.close()
    print(
        f"{title:28} {len(dataset) / first_seconds:9.0f} images/s into the cache, opened again in "
        f"{1000 * again_seconds:6.1f} ms, stream {64 * count / stream_seconds:9.0f} images/s"
    )


def matcher(here: Path) -> None:
    section = ModeGrid()
    images_NCHW = open_dataset(section, cache_dir=here / "cache", roots=Roots(here)).images_NCHW[:10_000]
    assign_modes(images_NCHW[:10], section)
    _, seconds = timed(lambda: assign_modes(images_NCHW, section))
    print(f"{'modegrid, assigned to modes':28} {len(images_NCHW) / seconds:9.0f} images/s")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def write_photos(here: Path) -> None:
    """Smooth colours with some noise, so that a JPEG is as large as a photograph's."""
    rng = np.random.default_rng(0)
    (here / "photos").mkdir()
    with zipfile.ZipFile(here / "photos.zip", "w") as archive:
        for index in range(JPEGS):
            small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            smooth = np.asarray(small.resize((JPEG_SIDE, JPEG_SIDE), Image.Resampling.BICUBIC))
            noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(noisy).save(file, "JPEG", quality=90)
            (here / "photos" / f"{index}.jpg").write_bytes(file.getvalue())
            archive.writestr(f"{index}.jpg", file.getvalue())


def write_idx(path: Path, count: int) -> None:
    images_NHW = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    sizes = b"".join(size.to_bytes(4) for size in images_NHW.shape)
    path.write_bytes(bytes([0, 0, 8, 3]) + sizes + images_NHW.tobytes())


if __name__ == "__main__":
    main()
