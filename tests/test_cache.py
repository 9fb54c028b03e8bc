"""Inputs are fetched once, verified, shared, and make room for one another; a full disk is one clear sentence."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from jobs.errors import StoreError
from service.cache import Cache, sha256_of, trim
from service.store import FullStore, MemoryStore


class Counting(MemoryStore):
    def __init__(self):
        super().__init__()
        self.downloads = []
        self.slow = threading.Event()
        self.slow.set()

    def download(self, key, path):
        self.downloads.append(key)
        self.slow.wait(10)
        super().download(key, path)


@pytest.fixture
def store():
    store = Counting()
    store.put("sets/cats.zip", b"c" * 1000)
    store.put("sets/dogs/1.png", b"d" * 300)
    store.put("sets/dogs/sub/2.png", b"e" * 300)
    return store


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "inputs", limit_bytes=2000, free_bytes=0)


def test_an_object_and_a_folder(store, cache):
    cats = cache.fetch(store, "sets/cats.zip")
    assert cats.path.name == "cats.zip" and cats.path.read_bytes() == b"c" * 1000
    dogs = cache.fetch(store, "sets/dogs")
    assert (dogs.path / "sub/2.png").read_bytes() == b"e" * 300
    assert cache.fetch(store, "sets/birds") is None
    cats.release()
    dogs.release()


def test_it_is_fetched_once_and_again_when_it_changed(store, cache):
    for _ in range(3):
        cache.fetch(store, "sets/cats.zip").release()
    assert store.downloads == ["sets/cats.zip"]
    store.put("sets/cats.zip", b"new")
    held = cache.fetch(store, "sets/cats.zip")
    assert held.path.read_bytes() == b"new"
    held.release()


def test_a_damaged_copy_is_fetched_again_and_a_touched_one_is_not(store, cache):
    held = cache.fetch(store, "sets/cats.zip")
    held.release()
    os.utime(held.path)  # another time, the same content: it is read again, and believed
    cache.fetch(store, "sets/cats.zip").release()
    assert len(store.downloads) == 1
    held.path.write_bytes(b"x" * 1000)
    again = cache.fetch(store, "sets/cats.zip")
    assert again.path.read_bytes() == b"c" * 1000
    assert len(store.downloads) == 2
    again.release()


def test_two_that_want_the_same_fetch_it_once(store, cache, tmp_path):
    store.slow.clear()
    other = Cache(tmp_path / "inputs", limit_bytes=2000, free_bytes=0)
    found = []
    threads = [
        threading.Thread(target=lambda c=c: found.append(c.fetch(store, "sets/cats.zip"))) for c in (cache, other)
    ]
    for thread in threads:
        thread.start()
    store.slow.set()
    for thread in threads:
        thread.join(20)
    assert store.downloads == ["sets/cats.zip"]
    assert found[0].path == found[1].path
    for held in found:
        held.release()


def test_the_one_not_used_for_longest_goes_first_and_what_is_in_use_stays(store, cache):
    for name in ("a", "b", "c"):
        store.put(name, name.encode() * 900)
    first = cache.fetch(store, "a")
    cache.fetch(store, "b").release()
    os.utime(first.path.parents[1] / "entry.json", (1, 1))  # the oldest, but in use
    cache.fetch(store, "c").release()
    assert first.path.exists()
    cache.fetch(store, "a").release()
    assert store.downloads == ["a", "b", "c"]
    cache.fetch(store, "b").release()
    assert store.downloads[-1] == "b"
    first.release()


def test_what_cannot_fit_is_refused_with_the_setting_to_change(store, cache):
    store.put("huge", bytes(3000))
    with pytest.raises(StoreError, match="has 3,000 bytes, the cache at most 2,000") as caught:
        cache.fetch(store, "huge")
    assert "GANKILN_CACHE_BYTES" in caught.value.hint
    held = [cache.fetch(store, key) for key in ("sets/cats.zip", "sets/dogs")]
    store.put("more", bytes(900))
    with pytest.raises(StoreError, match="what the cache holds is in use"):
        cache.fetch(store, "more")
    for one in held:
        one.release()
    cache.fetch(store, "more").release()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), FullStore("full")])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half(store, cache, monkeypatch, error):
    def full(key, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(store, "download", full)
    with pytest.raises(StoreError, match=r"the local disk of .* is full"):
        cache.fetch(store, "sets/cats.zip")
    monkeypatch.undo()
    held = cache.fetch(store, "sets/cats.zip")
    assert held.path.read_bytes() == b"c" * 1000
    held.release()


def test_an_object_that_changes_while_it_is_fetched_is_noticed(store, cache, monkeypatch):
    download = store.download

    def changed(key, path):
        store.put(key, b"longer or shorter")
        download(key, path)

    monkeypatch.setattr(store, "download", changed)
    with pytest.raises(StoreError, match=r"was changed while it was fetched|has 17 bytes, the store promised 1000"):
        cache.fetch(store, "sets/cats.zip")


def test_what_a_killed_worker_left_half_fetched_is_removed(store, cache, tmp_path):
    torn = tmp_path / "inputs" / ("0" * 24) / "data"
    torn.mkdir(parents=True)
    (torn / "half").write_bytes(bytes(100))
    cache.fetch(store, "sets/cats.zip").release()
    assert not torn.exists()


def test_locks_of_a_killed_process_are_free_again(store, cache, tmp_path):
    held = cache.fetch(store, "sets/cats.zip")
    lock = next((tmp_path / "inputs").glob("*.lock"))
    held.release()
    script = (
        f"import fcntl, os; file = open({str(lock)!r}); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('locked', flush=True); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
    cache.fetch(store, "sets/cats.zip").release()


def test_sha256_of_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    assert sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_jobs_computed_is_bounded_the_oldest_goes_first_and_what_is_in_use_stays(tmp_path):
    ages = {"data/old": 9000, "data/older": 10_000, "features/oldest.npy": 20_000, "data/new": 0}
    for name, age_seconds in ages.items():
        file = tmp_path / name if name.endswith(".npy") else tmp_path / name / "images.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000))
        then = time.time() - age_seconds
        os.utime(file, (then, then))
        os.utime(file.parent, (then, then))
    assert trim(tmp_path, 10_000) == 0
    assert trim(tmp_path, 2500) == 2
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["new", "old"]
    assert trim(tmp_path, 1) == 1  # the new one may be in use
    assert [path.name for path in tmp_path.glob("*/*")] == ["new"]
    assert trim(tmp_path / "none", 1) == 0
