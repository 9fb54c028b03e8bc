"""One contract, every store: what the queue rests on, asked of memory, a directory, and real S3 servers."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.store import BadKey, DirectoryStore, KeyNotFound, MemoryStore, Store, open_store
from service.store.s3 import PART_BYTES
from tests.s3_servers import GOOD_SERVERS, environment_of, s3_server

STORES = ["memory", "directory", *(pytest.param(name, marks=pytest.mark.s3) for name in GOOD_SERVERS)]


@pytest.fixture(scope="module", params=STORES)
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    match request.param:
        case "memory":
            yield MemoryStore()
        case "directory":
            yield DirectoryStore(tmp_path_factory.mktemp("store"))
        case name:
            server = s3_server(name)
            with environment_of(server):
                yield open_store(f"s3://{server.make_bucket()}/some/prefix")


@pytest.fixture
def store(stores: Store) -> Iterator[Store]:
    """An empty store."""
    yield stores
    for stat in [*stores.list("")]:
        stores.delete(stat.key)


def keys_of(store: Store, prefix: str = "", **options: object) -> list[str]:
    return [stat.key for stat in store.list(prefix, **options)]


def test_what_is_put_is_got(store: Store) -> None:
    for content in (b"", b"a", bytes(range(256)) * 1000):
        store.put("a/b.bin", content)
        assert store.get("a/b.bin") == content


def test_put_overwrites(store: Store) -> None:
    for number in range(10):
        store.put("beat", b"%d" % number)
        assert store.get("beat") == b"%d" % number


def test_get_of_nothing(store: Store) -> None:
    with pytest.raises(KeyNotFound, match="no/such"):
        store.get("no/such")
    assert store.stat("no/such") is None
    with pytest.raises(KeyNotFound):
        store.copy("no/such", "target")


def test_create_is_true_once(store: Store) -> None:
    assert store.create("log/1", b"first") is True
    assert store.create("log/1", b"second") is False
    assert store.create("log/1", b"first") is False
    assert store.get("log/1") == b"first"


def test_create_after_put_and_after_delete(store: Store) -> None:
    store.put("key", b"put")
    assert store.create("key", b"created") is False
    store.delete("key")
    assert store.create("key", b"created") is True
    assert store.get("key") == b"created"


def test_of_rival_creators_one_wins(store: Store) -> None:
    rivals, rounds = 4, 10
    barrier = threading.Barrier(rivals)

    def race(rival: int) -> list[bool]:
        won = []
        for number in range(rounds):
            barrier.wait(30)
            won.append(store.create(f"race/{number:02d}", b"%d" % rival))
        return won

    with ThreadPoolExecutor(rivals) as pool:
        answers = [*pool.map(race, range(rivals))]
    for number in range(rounds):
        winners = [rival for rival in range(rivals) if answers[rival][number]]
        assert len(winners) == 1
        assert store.get(f"race/{number:02d}") == b"%d" % winners[0]


def test_delete_forgets_and_may_be_repeated(store: Store) -> None:
    store.put("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    assert store.stat("a/b") is None
    assert keys_of(store, "a/") == []


def test_stat_tells_size_time_and_change(store: Store) -> None:
    store.put("key", b"four")
    first = store.stat("key")
    assert first is not None
    assert (first.key, first.size_bytes) == ("key", 4)
    assert abs(first.modified_seconds - store.server_time_seconds()) < 60
    assert store.read("key") == (b"four", first)
    store.put("key", b"else")
    second = store.stat("key")
    assert second is not None
    assert second.etag != first.etag


def test_list_is_in_order_and_within_the_prefix(store: Store) -> None:
    names = [f"ready/{rank:02d}/{number:04d}" for rank in (3, 50) for number in range(5)]
    for key in reversed([*names, "readx", "active/1", "z"]):
        store.put(key, b"")
    assert keys_of(store, "ready/") == names
    assert keys_of(store, "ready/03/") == names[:5]
    assert keys_of(store, "ready/50/000") == names[5:]
    assert keys_of(store) == sorted([*names, "readx", "active/1", "z"])
    assert keys_of(store, "nothing/") == []


def test_list_with_limit_and_cursor(store: Store) -> None:
    names = [f"ready/{number:04d}" for number in range(12)]
    for key in names:
        store.put(key, b"")
    assert keys_of(store, "ready/", limit=5) == names[:5]
    assert keys_of(store, "ready/", limit=5, start_after=names[4]) == names[5:10]
    assert keys_of(store, "ready/", start_after="ready/0009~") == names[10:]
    assert keys_of(store, "ready/", start_after="a") == names
    assert keys_of(store, "ready/", start_after="z") == []
    assert keys_of(store, "ready/", limit=0) == []


def test_cursor_across_folders(store: Store) -> None:
    names = [f"ready/{rank:02d}/{number:02d}" for rank in range(3) for number in range(3)]
    for key in names:
        store.put(key, b"")
    assert keys_of(store, "ready/", start_after="ready/00/~") == names[3:]
    assert keys_of(store, "ready/", start_after="ready/01/01") == names[5:]


def test_list_goes_past_a_page(store: Store) -> None:
    names = [f"many/{number:05d}" for number in range(1050)]
    with ThreadPoolExecutor(8) as pool:
        [*pool.map(lambda key: store.put(key, b""), names)]
    assert keys_of(store, "many/") == names
    assert keys_of(store, "many/", limit=1020) == names[:1020]
    with ThreadPoolExecutor(8) as pool:
        [*pool.map(store.delete, names)]


def test_list_sees_every_write_and_delete_at_once(store: Store) -> None:
    for number in range(10):
        store.put(f"seen/{number}", b"")
        assert len(keys_of(store, "seen/")) == number + 1
    for number in range(10):
        store.delete(f"seen/{number}")
        assert len(keys_of(store, "seen/")) == 9 - number


def test_copy_overwrites_and_is_independent(store: Store) -> None:
    store.put("from/a", b"one")
    store.put("to/a", b"old")
    for _ in range(2):
        store.copy("from/a", "to/a")
        assert store.get("to/a") == b"one"
    store.put("from/a", b"two")
    assert store.get("to/a") == b"one"
    store.delete("to/a")
    assert store.get("from/a") == b"two"


@pytest.mark.parametrize("size_bytes", [0, 10, PART_BYTES + 12345])
def test_files_go_up_and_come_down(store: Store, tmp_path: Path, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    (tmp_path / "up.bin").write_bytes(content)
    store.upload("ckpt/state.pt", tmp_path / "up.bin")
    store.copy("ckpt/state.pt", "results/state.pt")
    store.download("results/state.pt", tmp_path / "down.bin")
    assert (tmp_path / "down.bin").read_bytes() == content
    assert store.stat("ckpt/state.pt").size_bytes == size_bytes


def test_a_download_that_fails_leaves_no_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyNotFound):
        store.download("no/such", tmp_path / "down.bin")
    assert [*tmp_path.iterdir()] == []


def test_names_of_people(store: Store) -> None:
    for key in ("inbox/mein Modell (1).yaml", "inbox/実験.yaml", "inbox/a+b=c&d%20.yaml", "inbox/!'*~.yaml"):
        store.put(key, key.encode())
        assert store.get(key) == key.encode()
        assert keys_of(store, "inbox/") == [key]
        store.delete(key)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../b", "a//b", "a/./b", "a\0b", "a/" + "b" * 300])
def test_no_key_leaves_its_place(store: Store, key: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    acts = [
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.create(key, b""),
        lambda: store.delete(key),
        lambda: store.stat(key),
        lambda: store.upload(key, tmp_path / "file"),
        lambda: store.download(key, tmp_path / "other"),
        lambda: store.copy("a", key),
        lambda: store.copy(key, "a"),
    ]
    for act in acts:
        with pytest.raises(BadKey):
            act()


def test_every_request_is_observed(store: Store) -> None:
    seen: list[tuple[str, str]] = []
    store.observer = lambda operation, code, seconds: seen.append((operation, code)) if seconds >= 0 else None
    try:
        store.put("k", b"")
        store.create("k", b"")
        store.get("k")
        store.stat("absent")
        [*store.list("")]
        store.delete("k")
    finally:
        store.observer = lambda operation, code, seconds: None
    expected = [
        ("put", "ok"),
        ("create", "exists"),
        ("get", "ok"),
        ("stat", "absent"),
        ("list", "ok"),
        ("delete", "ok"),
    ]
    assert Counter(seen) == Counter(expected)


def test_the_clock_of_the_store(store: Store) -> None:
    store.put("k", b"")
    assert abs(store.clock_skew_seconds()) < 5
    stat = store.stat("k")
    assert stat is not None
    assert abs(store.server_time_seconds() - stat.modified_seconds) < 5
