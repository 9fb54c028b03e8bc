"""Does training wait for shards? python -m tests.benchmarks.bench_shards [--server seaweedfs]

Writes height maps as PNG files into tar files, and prints: images/s of the stream alone; the share of time that a
training step waits for its batch, with the smallest translation that the tests train (a real one waits less); and how
much memory grows from the first thousand images to the last. The same again from an S3 server over HTTP, whose shards
are lent: then also how long the one pass before training takes, and, looked at all the time, the most that the job's
folder took of the disk and this process of memory, against the size of the set.
"""

import argparse
import io
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import psutil
import torch
from PIL import Image

from jobs import recipes
from jobs.data import Roots, batches, open_data
from jobs.data.heightmaps import draw_pair
from jobs.spec.pairs import Shards
from jobs.training.recipe import Known
from service.cache import Cache
from service.inputs import Inputs
from service.store import open_store
from tests.s3_servers import GOOD_SERVERS, ServerName, environment_of, s3_server
from tests.tiny import EVERY, loaded

SIDE, FILE_SIDE, PER_SHARD = 32, 128, 250
TINY = next(path for path in EVERY if path.stem == "translation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="images of each domain")
    parser.add_argument("--steps", type=int, default=40, help="training steps of 16 images")
    parser.add_argument("--server", choices=GOOD_SERVERS, default="seaweedfs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        write(here, asked.images)
        start = time.perf_counter()
        dataset = open_data(
            Shards(a="a", b="b", resolution=SIDE, channels="rgba"), cache_dir=here / "cache", roots=Roots(here)
        )
        print(f"{asked.images} images of each domain, indexed and looked at in {time.perf_counter() - start:.1f} s")
        stream = batches(dataset, batch=16, seed=0, images=0, mirror=False)
        speed(stream, asked.images)
        waiting(dataset, stream, asked.steps)
        stream.close()
        from_a_server(asked.server, here, asked.steps)


def from_a_server(name: ServerName, here: Path, steps: int) -> None:
    """Shards of a bucket; six of them may be on the disk, and a window takes up to three of each domain."""
    data = {"kind": "shards", "a": "sets/a", "b": "sets/b", "resolution": SIDE, "channels": "rgba", "window": 256}
    job, server = loaded(TINY, **{"recipe.data": data}).job, s3_server(name)
    with environment_of(server):
        store = open_store(f"s3://{server.make_bucket()}")
        tars = sorted(here.glob("*/*.tar"))
        for path in tars:
            store.upload(f"sets/{path.parent.name}/{path.name}", path)
        limit_bytes = 6 * max(path.stat().st_size for path in tars)
        cache = Cache(here / "inputs", limit_bytes=limit_bytes, free_bytes=0)
        inputs = Inputs(store, cache, (), open_store=open_store, stream_bytes=limit_bytes)
        brought = inputs.bring(job, here / "job")
        with peaks(here / "job") as most:
            start = time.perf_counter()
            roots = Roots(here / "job", tuple(brought.roots))
            dataset = open_data(job.recipe.data, cache_dir=here / "other cache", roots=roots)
            print(f"from {name}: one pass before training took {time.perf_counter() - start:.1f} s; ", end="")
            stream = batches(dataset, batch=16, seed=0, images=0, mirror=False)
            waiting(dataset, stream, steps)
            stream.close()
        brought.release()
        whole_bytes = sum(path.stat().st_size for path in tars)
        print(
            f"of a set of {whole_bytes / 1e6:.1f} MB at most {most['disk'] / 1e6:.1f} MB were on the disk "
            f"({most['disk'] / whole_bytes:.0%}); memory grew by at most {most['memory'] / 1e6:.1f} MB"
        )


@contextmanager
def peaks(folder: Path) -> Iterator[dict[str, int]]:
    """The most bytes that lay in `folder`, and by which this process grew, while inside."""
    most, over = {"disk": 0, "memory": 0}, threading.Event()
    process = psutil.Process()
    before_bytes = process.memory_info().rss

    def look() -> None:
        while not over.wait(0.01):
            found = 0
            for path in folder.rglob("*"):
                with suppress(FileNotFoundError):
                    found += path.stat().st_size if path.is_file() else 0
            grown = process.memory_info().rss - before_bytes
            most.update(disk=max(most["disk"], found), memory=max(most["memory"], grown))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield most
    finally:
        over.set()
        looking.join()


def write(here: Path, images: int) -> None:
    """`images` of each domain; every shard holds the same pictures, for drawing them takes longest."""
    drawn = [draw_pair(0, index, FILE_SIDE) for index in range(PER_SHARD)]
    for number, domain in enumerate("ab"):
        (here / domain).mkdir()
        files = [png(pixels[4 * number : 4 * number + 4]) for pixels in drawn]
        for first in range(0, images, PER_SHARD):
            with tarfile.open(here / domain / f"{first:06d}.tar", "w") as archive:
                for index, file in enumerate(files[: images - first], first):
                    info = tarfile.TarInfo(f"{index:08d}.png")
                    info.size = len(file)
                    archive.addfile(info, io.BytesIO(file))


def png(pixels_CHW) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_CHW.transpose(1, 2, 0).copy()).save(file, "PNG")
    return file.getvalue()


def speed(stream, images: int) -> None:
    process = psutil.Process()
    next(stream)
    before, start = process.memory_info().rss, time.perf_counter()
    count = sum(2 * len(batch.a_NCHW) for batch in islice(stream, 3 * images // 16))
    seconds = time.perf_counter() - start
    grown = (process.memory_info().rss - before) / 1e6
    print(f"stream alone: {count / seconds:.0f} images/s; three epochs grew memory by {grown:.1f} MB")


def waiting(dataset, stream, steps: int) -> None:
    job = loaded(TINY).job
    recipe = recipes.build(job, Known((), dataset.conditions), "fp32", torch.device("cpu"))
    waited = trained = 0.0
    for step in range(steps):
        start = time.perf_counter()
        batch = next(stream)
        ready = time.perf_counter()
        recipe.step(batch, 16 * step)
        waited, trained = waited + ready - start, trained + time.perf_counter() - ready
    print(f"training of {steps} steps waited {waited / (waited + trained):.2%} of its time for data")


if __name__ == "__main__":
    main()
