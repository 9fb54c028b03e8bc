"""Does this store keep its promises? Asked once at every start, because many stores answer 200 and overwrite.

Measured on servers that people use: rclone, JuiceFS' gateway and s3rver ignore `If-None-Match`; Swift obeys it one
request at a time and loses races; so the probe creates twice in a row, and then with rivals at the same moment.
"""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.store.base import Store, Unavailable, UnsafeStore

RIVALS = 4  # SeaweedFS takes seconds when more than a few want one key
ROUNDS = 12
AT_ONCE = 4  # rounds that run beside one another
PATIENCE_SECONDS = 30

_REMEDY = (
    "use a store that honours it (Amazon S3, MinIO, Ceph RGW and SeaweedFS from 2026 on an unversioned bucket, "
    "Cloudflare R2, a local or NFS directory), or run exactly one worker with --unsafe-single-worker"
)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A store that passed."""

    seconds: float
    rounds: int
    uncertain: int
    """Creates in the race that got no clear answer; allowed, the queue settles them by reading."""


def check_store(store: Store) -> SelfTest:
    """Try every promise of `Store` that the queue rests on; about a second, some 100 small requests.

    Raises UnsafeStore with one sentence and the remedy; StoreRefused or Unavailable when it did not get that far.
    Whatever it wrote, below gc/selftest/, it deletes.
    """
    started = time.monotonic()
    folder = f"gc/selftest/{secrets.token_hex(8)}"
    written: list[str] = []

    def key(name: str) -> str:
        written.append(f"{folder}/{name}")
        return written[-1]

    try:
        _check_create_twice(store, key("twice"))
        uncertain = _check_race(store, [key(f"race-{number:02d}") for number in range(ROUNDS)])
        _check_overwrite(store, key("overwrite"))
        _check_list(store, f"{folder}/list/", [key(f"list/{number:02d}") for number in range(3)])
    finally:
        for name in written:
            store.delete(name)
    return SelfTest(time.monotonic() - started, ROUNDS, uncertain)


def _check_create_twice(store: Store, key: str) -> None:
    first, second = store.create(key, b"first"), store.create(key, b"second")
    if not first or second or store.get(key) != b"first":
        raise UnsafeStore(
            f"{store.url}: ignores `If-None-Match: *` (a second create of the same key "
            f"{'succeeded' if second else 'changed it'}), so two workers would own one job",
            hint=_REMEDY,
        )


def _check_race(store: Store, keys: list[str]) -> int:
    """Exactly one of several creators at the same moment wins, and what it wrote stays."""
    with ThreadPoolExecutor(RIVALS * AT_ONCE) as pool:
        uncertain = 0
        for begin in range(0, len(keys), AT_ONCE):
            barriers = {key: threading.Barrier(RIVALS) for key in keys[begin : begin + AT_ONCE]}
            answers = {
                key: [pool.submit(_create_together, store, key, rival, barrier) for rival in range(RIVALS)]
                for key, barrier in barriers.items()
            }
            for key, futures in answers.items():
                uncertain += _judge_race(store, key, [future.result() for future in futures])
    return uncertain


def _create_together(store: Store, key: str, rival: int, barrier: threading.Barrier) -> bool | None:
    """Whether this rival won; None when the store gave no clear answer."""
    barrier.wait(PATIENCE_SECONDS)
    try:
        return store.create(key, b"%d" % rival)
    except Unavailable:
        return None


def _judge_race(store: Store, key: str, answers: list[bool | None]) -> int:
    winners = [rival for rival, won in enumerate(answers) if won]
    unclear = [rival for rival, won in enumerate(answers) if won is None]
    if not winners and len(unclear) == len(answers):
        raise Unavailable(f"{store.url}: gave no clear answer to any of {RIVALS} creators of one key")
    owner = int(store.get(key))
    if len(winners) > 1 or (winners and owner != winners[0]) or (not winners and owner not in unclear):
        raise UnsafeStore(
            f"{store.url}: checks `If-None-Match: *` but not atomically ({len(winners)} of {RIVALS} creators at the "
            f"same moment were told that they won), so two workers would own one job",
            hint=_REMEDY,
        )
    return len(unclear)


def _check_overwrite(store: Store, key: str) -> None:
    for number in range(5):
        content = b"version %d" % number
        store.put(key, content)
        if store.get(key) != content:
            raise UnsafeStore(
                f"{store.url}: a read returned what had been overwritten already, so a heartbeat cannot be trusted",
                hint="use a store with read-after-write consistency, and no cache or CDN in front of it",
            )


def _check_list(store: Store, prefix: str, keys: list[str]) -> None:
    expected: list[str] = []
    for key in keys:
        store.put(key, b"")
        expected.append(key)
        _expect_list(store, expected, lambda: [stat.key for stat in store.list(prefix)])
    _expect_list(store, keys[1:], lambda: [stat.key for stat in store.list(prefix, start_after=keys[0])])
    _expect_list(store, keys[:1], lambda: [stat.key for stat in store.list(prefix, limit=1)])
    for key in keys:
        store.delete(key)
        expected.remove(key)
        _expect_list(store, expected, lambda: [stat.key for stat in store.list(prefix)])


def _expect_list(store: Store, expected: list[str], listed: Callable[[], list[str]]) -> None:
    if (found := listed()) != expected:
        raise UnsafeStore(
            f"{store.url}: a list does not show what was just written or deleted, in order "
            f"({len(found)} keys instead of {len(expected)}), so jobs would be overlooked",
            hint="use a store with list-after-write consistency, and no cache in front of it",
        )
