"""Shards that a worker lends: the same stream as from a disk, from any image on, on a disk that holds a few of them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.data import Roots, batches, open_data
from jobs.data.lent import MANIFEST
from jobs.errors import DataError
from jobs.run import Surroundings, run
from jobs.spec.pairs import Shards
from service.cache import Cache
from service.inputs import Inputs
from service.store import MemoryStore, Unavailable, open_store
from tests.s3_servers import GOOD_SERVERS, environment_of, s3_server
from tests.test_data_shards import TINY, picture, write_tar
from tests.test_run import QUICK, final_state, same
from tests.tiny import loaded

PER_SHARD, SHARDS, WINDOW = 10, 9, 8
SPEC = {"kind": "shards", "a": "s3://bucket/sets/a", "b": "s3://bucket/sets/b", "resolution": 32, "window": WINDOW}


class Bucket(MemoryStore):
    """Counts what is brought, and can be away."""

    def __init__(self):
        super().__init__()
        self.brought = []
        self.away = threading.Event()

    def download(self, key, path):
        if self.away.is_set():
            raise Unavailable("away")
        self.brought.append(key)
        super().download(key, path)


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for domain in "ab":
        for shard in range(SHARDS):
            first = shard * PER_SHARD
            members = {f"{i:04d}.png": picture(domain, i) for i in range(first, first + PER_SHARD)}
            write_tar(folder / domain / f"{shard:05d}.tar", members)
    return folder


@pytest.fixture
def bucket(disk):
    store = Bucket()
    for path in disk.glob("*/*.tar"):
        store.put(f"sets/{path.parent.name}/{path.name}", path.read_bytes())
    return store


def shard_bytes(disk: Path) -> int:
    return (disk / "a/00000.tar").stat().st_size


class Lending:
    """A worker's side: the folder that a job reads, for a job of `SPEC`."""

    def __init__(self, store, home: Path, stream_bytes: int, data=SPEC):
        self.said = []
        inputs = Inputs(
            store, Cache(home / "inputs", limit_bytes=10**9, free_bytes=0), (), open_store=lambda _url: store,
            stream_bytes=stream_bytes, say=self.said.append,
        )  # fmt: skip
        self.job = loaded(TINY, **{"recipe.data": data}).job
        self.brought = inputs.bring(self.job, home / "job")
        self.roots = Roots(home / "job", tuple(self.brought.roots))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.brought.release()

    def open(self, cache: Path, *, paired=False):
        return open_data(self.job.recipe.data, cache_dir=cache, roots=self.roots, paired=paired)

    def on_disk_bytes(self) -> int:
        """All that lies in the folder of the job, what is still on its way too."""
        found = 0
        for path in self.brought.folder.rglob("*"):
            with suppress(FileNotFoundError):
                found += path.stat().st_size if path.is_file() and path.name != MANIFEST else 0
        return found

    @contextmanager
    def watched(self):
        """Looks at the disk all the time; a list of what was found."""
        found, over = [], threading.Event()

        def look():
            while not over.wait(0.002):
                found.append(self.on_disk_bytes())

        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield found
        finally:
            over.set()
            looking.join()


def some_batches(dataset, images: int, count: int) -> list[np.ndarray]:
    source = batches(dataset, batch=5, seed=3, images=images, mirror=False)
    found = []
    for batch in islice(source, count):
        found += [batch.a_NCHW.numpy().copy(), batch.b_NCHW.numpy().copy()]
    source.close()
    return found


@given(start=st.integers(0, 60), size=st.integers(1, 12))
@settings(max_examples=8)
def test_a_lent_stream_is_the_one_from_a_disk_from_any_image_on(disk, tmp_path_factory, start, size):
    """An empty disk in the middle of a run is what a job finds that resumes on another machine."""
    home = tmp_path_factory.mktemp("home")
    store = Bucket()
    for path in disk.glob("*/*.tar"):
        store.put(f"sets/{path.parent.name}/{path.name}", path.read_bytes())
    local = open_data(Shards(**(SPEC | {"a": "a", "b": "b"})), cache_dir=home / "cache", roots=Roots(disk))
    with Lending(store, home, stream_bytes=8 * shard_bytes(disk)) as lending:
        lent = lending.open(home / "cache")
        ours, theirs = (some_batches(dataset, 5 * start, size) for dataset in (lent, local))
    assert all((one == other).all() for one, other in zip(ours, theirs, strict=True))


@pytest.mark.s3
@pytest.mark.parametrize("name", GOOD_SERVERS)
def test_shards_of_a_real_server_over_http(disk, tmp_path, name):
    server = s3_server(name)
    local = open_data(Shards(**(SPEC | {"a": "a", "b": "b"})), cache_dir=tmp_path / "cache", roots=Roots(disk))
    with environment_of(server):
        store = open_store(f"s3://{server.make_bucket()}")
        for path in disk.glob("*/*.tar"):
            store.upload(f"sets/{path.parent.name}/{path.name}", path)
        with Lending(store, tmp_path, 8 * shard_bytes(disk)) as lending:
            ours, theirs = (some_batches(dataset, 25, 30) for dataset in (lending.open(tmp_path / "cache"), local))
    assert all((one == other).all() for one, other in zip(ours, theirs, strict=True))


def test_the_disk_holds_no_more_than_it_may(bucket, disk, tmp_path):
    """18 shards, room for 8, from the first look at them on; three epochs are shown."""
    limit_bytes = 8 * shard_bytes(disk)
    with Lending(bucket, tmp_path, limit_bytes) as lending, lending.watched() as found:
        dataset = lending.open(tmp_path / "cache")
        assert len(bucket.brought) == 2 * SHARDS, "one pass finds all images, and those that are looked at"
        some_batches(dataset, 0, 54)
    assert limit_bytes / 2 < max(found) <= limit_bytes < sum(path.stat().st_size for path in disk.glob("*/*.tar"))
    assert not list(tmp_path.glob("job/**/*.tar")), "nothing is left behind"
    shown = bucket.brought[2 * SHARDS :]
    assert len(shown) <= 4 * 2 * SHARDS, "a shard is brought about once an epoch, not once an image"


def test_two_jobs_on_one_machine_do_not_disturb_each_other(bucket, disk, tmp_path):
    """They index the same new set at the same time, into one cache, and each has a folder of its own."""
    local = open_data(Shards(**(SPEC | {"a": "a", "b": "b"})), cache_dir=tmp_path / "local", roots=Roots(disk))
    limit_bytes = 8 * shard_bytes(disk)
    with (
        Lending(bucket, tmp_path / "one", limit_bytes) as one,
        Lending(bucket, tmp_path / "two", limit_bytes) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        jobs = [
            pool.submit(lambda lending=lending, at=at: some_batches(lending.open(tmp_path / "cache"), at, 20))
            for lending, at in ((one, 0), (two, 35))
        ]
        for job, at in zip(jobs, (0, 35), strict=True):
            theirs = some_batches(local, at, 20)
            assert all((x == y).all() for x, y in zip(job.result(), theirs, strict=True))
        one.brought.release()
        assert some_batches(two.open(tmp_path / "cache"), 0, 3), "the end of one is not the end of the other"


def test_a_bucket_that_is_away_is_waited_for(bucket, disk, tmp_path):
    waited = []

    def come_back():
        waited.append(lending.brought.waits)
        bucket.away.clear()

    local = open_data(Shards(**(SPEC | {"a": "a", "b": "b"})), cache_dir=tmp_path / "cache", roots=Roots(disk))
    theirs = some_batches(local, 20, 10)
    with Lending(bucket, tmp_path, 8 * shard_bytes(disk)) as lending:
        dataset = lending.open(tmp_path / "cache")
        bucket.away.set()
        threading.Timer(1.5, come_back).start()
        ours = some_batches(dataset, 20, 10)
        assert all((one == other).all() for one, other in zip(ours, theirs, strict=True))
        assert waited == [True] and not lending.brought.waits, "an outage is not held against the job"
    assert any("sets/" in sentence and "trying again" in sentence for sentence in lending.said)


def test_a_shard_that_is_gone_or_another_by_now_ends_the_job(bucket, disk, tmp_path):
    with Lending(bucket, tmp_path, 8 * shard_bytes(disk)) as lending:
        bucket.delete("sets/a/00003.tar")
        with pytest.raises(DataError, match=r"data\.a: '00003\.tar' cannot be brought"):
            lending.open(tmp_path / "cache")
    content = (disk / "a/00003.tar").read_bytes()
    bucket.put("sets/a/00003.tar", content)
    with Lending(bucket, tmp_path / "other", 8 * shard_bytes(disk)) as lending:
        bucket.put("sets/a/00003.tar", content[::-1])
        with pytest.raises(DataError, match=r"cannot be brought: .* not what it was when the job began"):
            lending.open(tmp_path / "cache")


def test_a_shard_that_is_cut_short_in_the_bucket_is_skipped_and_named(disk, tmp_path):
    """One of 101; the stream goes on without it."""
    store = Bucket()
    for domain in "ab":
        for shard in range(101):
            path = disk / domain / f"{shard % SHARDS:05d}.tar"
            cut = 700 if (domain, shard) == ("a", 7) else None
            store.put(f"sets/{domain}/{shard:05d}.tar", path.read_bytes()[:cut])
    with Lending(store, tmp_path, 8 * shard_bytes(disk)) as lending:
        dataset = lending.open(tmp_path / "cache")
        assert [one.name for one in dataset.skipped] == ["data.a: 00007.tar"] and len(dataset.sets[0]) == 1000
        assert some_batches(dataset, 0, 4)


def test_pairs_of_one_folder_share_its_room(disk, tmp_path):
    """Shown in pairs, and shown unpaired: then the windows of two orders must fit."""
    store = Bucket()
    for shard in range(SHARDS):
        numbers = range(shard * PER_SHARD, (shard + 1) * PER_SHARD)
        write_tar(tmp_path / "x.tar", {f"{i:04d}.{domain}.png": picture(domain, i) for i in numbers for domain in "ab"})
        store.put(f"sets/{shard:05d}.tar", (tmp_path / "x.tar").read_bytes())
    data = SPEC | {"a": "s3://bucket/sets", "b": None, "paired": True}
    size_bytes = (tmp_path / "x.tar").stat().st_size
    for paired, shards in ((True, 3), (False, 4)):
        with Lending(store, tmp_path / f"{paired}", shards * size_bytes, data) as lending, lending.watched() as found:
            dataset = lending.open(tmp_path / f"cache {paired}", paired=paired)
            a, b = some_batches(dataset, 0, 18)[::2], some_batches(dataset, 0, 18)[1::2]
            assert (np.concatenate(a)[:, 0] == np.concatenate(b)[:, 0]).all() == paired
        assert max(found) <= shards * size_bytes
    with (
        Lending(store, tmp_path / "less", 3 * size_bytes, data) as lending,
        pytest.raises(DataError, match="GANKILN_STREAM_BYTES"),
    ):
        lending.open(tmp_path / "cache less", paired=False)


def test_a_window_that_does_not_fit_is_refused_before_training(bucket, disk, tmp_path):
    with (
        Lending(bucket, tmp_path, 3 * shard_bytes(disk)) as lending,
        pytest.raises(DataError, match=r"(?s)8 images of a window may lie in shards of .* GANKILN_STREAM_BYTES"),
    ):
        lending.open(tmp_path / "cache")


def test_a_run_over_lent_shards_resumes_exactly_with_an_empty_disk(bucket, disk, tmp_path):
    data = SPEC | {"channels": "rgba"}
    job = loaded(TINY, **QUICK, **{"recipe.data": data, "training.images": 64, "diagnosis.enabled": False})
    states = {}
    for name, stops in (("whole", [None]), ("broken", [2, None])):
        for attempt, stop in enumerate(stops):
            seen = iter(range(stop or 10**6))
            with Lending(bucket, tmp_path / f"{name}{attempt}", 8 * shard_bytes(disk)) as lending:
                around = Surroundings(
                    out=tmp_path / name, cache_dir=tmp_path / f"cache-{name}{attempt}", roots=lending.roots,
                    should_stop=lambda seen=seen: next(seen, None) is None,
                )  # fmt: skip
                if stop is None:
                    run(job, around)
                else:
                    with pytest.raises(Exception, match="stopped at 32"):
                        run(job, around)
        states[name] = final_state(tmp_path / name)
    assert same(states["whole"], states["broken"])


def test_pairs_in_shards_stay_pairs(disk, tmp_path):
    """Image n of A has 0 where that of B has 200, and both their number in the first channel."""
    section = Shards(**(SPEC | {"a": "a", "b": "b", "paired": True, "mirror": True}))
    dataset = open_data(section, cache_dir=tmp_path, roots=Roots(disk), paired=True)
    for image in range(0, 180, 5):
        a, b = some_batches(dataset, image, 1)
        assert (a[:, 0] == b[:, 0]).all() and (a[:, 1] == 0).all() and (b[:, 1] == 200).all()
    assert (dataset.truth(4, 0)[:, 0] == dataset.conditions(4, 0)[:, 0].numpy()).all()


def test_shards_of_strangers_are_no_pairs(disk, tmp_path):
    members = {f"other{i}.png": picture("b", i) for i in range(PER_SHARD)}
    for shard in range(SHARDS):
        write_tar(tmp_path / "b" / f"{shard:05d}.tar", members)
    (tmp_path / "a").symlink_to(disk / "a")
    section = Shards(**(SPEC | {"a": "a", "b": "b", "paired": True}))
    with pytest.raises(DataError, match=r"data\.paired: in the shard '00000\.tar'"):
        open_data(section, cache_dir=tmp_path / "cache", roots=Roots(tmp_path), paired=True)
