"""What is special about a directory: links, folders, other users' tricks, other processes."""

import errno
import multiprocessing
import os
import shutil
import threading
from pathlib import Path

import pytest

from service.store import DirectoryStore, FullStore, KeyNotFound, StoreRefused, Unavailable, UnsafeStore
from service.store.base import StoreError


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def keys_of(store: DirectoryStore, prefix: str = "") -> list[str]:
    return [stat.key for stat in store.list(prefix)]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_link_out_of_the_store_is_not_followed(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    store.make_folder("inbox/")
    inbox = tmp_path / "store" / "inbox"
    (inbox / "a.yaml").symlink_to(tmp_path / "secret")
    (inbox / "folder").symlink_to(tmp_path / "outside")
    assert keys_of(store) == []
    for read in (store.get, lambda key: store.copy(key, "stolen"), lambda key: store.download(key, tmp_path / "x")):
        for key in ("inbox/a.yaml", "inbox/folder/file"):
            with pytest.raises(StoreError):
                read(key)
    with pytest.raises(StoreError):
        store.put("inbox/folder/new", b"x")
    assert store.stat("inbox/a.yaml") is None
    assert [*(tmp_path / "outside").iterdir()] == [tmp_path / "outside" / "file"]
    assert store.stat("stolen") is None or store.get("stolen") != b"secret"


def test_overwriting_a_link_replaces_the_link(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"theirs")
    store.make_folder("hb/")
    (tmp_path / "store" / "hb" / "1.json").symlink_to(tmp_path / "target")
    store.put("hb/1.json", b"ours")
    assert (tmp_path / "target").read_bytes() == b"theirs"
    assert store.get("hb/1.json") == b"ours"


def test_a_pipe_is_no_object(store: DirectoryStore, tmp_path: Path) -> None:
    store.make_folder("inbox/")
    os.mkfifo(tmp_path / "store" / "inbox" / "trap.yaml")
    with pytest.raises(KeyNotFound):
        store.get("inbox/trap.yaml")


def test_nothing_is_left_beside_what_was_asked_for(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store.create("a/1", b"x")
    store.create("a/1", b"y")
    store.put("a/1", b"z")
    store.upload("a/2", tmp_path / "file")
    store.copy("a/2", "a/3")
    store.copy("a/2", "a/3")  # rename(2) between two links of one file does nothing at all
    assert names_in(tmp_path / "store" / "a") == ["1", "2", "3"]


def test_a_crash_in_a_write_leaves_nothing_visible(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("a/1", b"x")
    (tmp_path / "store" / "a" / ".gankiln-tmp-99-abc").write_bytes(b"half")
    assert keys_of(store) == ["a/1"]


def test_empty_folders_go_and_the_outermost_stay(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("jobs/1/log/1", b"")
    store.put("inbox/a.yaml", b"")
    store.delete("jobs/1/log/1")
    store.delete("inbox/a.yaml")
    assert names_in(tmp_path / "store") == ["inbox", "jobs"]
    assert names_in(tmp_path / "store" / "jobs") == []


def test_folders_that_others_remove_meanwhile_are_made_again(store: DirectoryStore) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            store.put("a/b/c/other", b"")
            store.delete("a/b/c/other")

    churners = [threading.Thread(target=churn) for _ in range(2)]
    for churner in churners:
        churner.start()
    try:
        for number in range(150):
            assert store.create(f"a/b/c/{number}", b"x")
            store.delete(f"a/b/c/{number}")
    finally:
        stop.set()
        for churner in churners:
            churner.join()


def test_order_is_that_of_a_bucket(store: DirectoryStore) -> None:
    keys = ["o/a/b", "o/a!b", "o/a-b", "o/a.b", "o/a0", "o/a/a", "o/A", "o/é", "o/a/b!"]
    for key in keys:
        store.put(key, b"")
    assert keys_of(store, "o/") == sorted(keys)
    for cursor in sorted(keys):
        assert [stat.key for stat in store.list("o/", start_after=cursor)] == [k for k in sorted(keys) if k > cursor]


def test_files_that_are_no_keys_are_left_out(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("inbox/good.yaml", b"")
    for name in (b"bad\n.yaml", b"bad\xff.yaml", "bad\u202e.yaml".encode()):
        (tmp_path / "store" / "inbox").joinpath(os.fsdecode(name)).write_bytes(b"")
    assert keys_of(store) == ["inbox/good.yaml"]


def test_a_lost_reply_of_nfs_is_known_as_a_win(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real_link = os.link

    def link_twice(*args: object, **options: object) -> None:
        real_link(*args, **options)
        raise FileExistsError(errno.EEXIST, "the client repeated it")

    monkeypatch.setattr(os, "link", link_twice)
    assert store.create("log/1", b"mine") is True
    assert store.get("log/1") == b"mine"


def test_a_file_system_without_links_is_refused(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*args: object, **options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(UnsafeStore, match="hard links"):
        store.create("log/1", b"x")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, FullStore), (errno.EDQUOT, FullStore), (errno.EROFS, StoreRefused), (errno.ESTALE, Unavailable)],
)
def test_what_the_disk_says_is_translated(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    seen = []
    store.observer = lambda operation, code, seconds: seen.append((operation, code))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match="log/1: put failed"):
        store.put("log/1", b"x")
    assert seen == [("put", "error")]
    assert keys_of(store) == []


def test_a_file_in_the_way_of_a_folder(store: DirectoryStore) -> None:
    store.put("a", b"")
    with pytest.raises(StoreError, match="a/b"):
        store.put("a/b", b"")


def test_a_removed_directory_is_an_outage_and_not_an_empty_queue(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("log/1", b"x")
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").mkdir()
    for act in (lambda: store.get("log/1"), lambda: store.put("log/2", b""), lambda: [*store.list("log/")]):
        with pytest.raises(Unavailable, match="removed"):
            act()


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreRefused, match="file"):
        DirectoryStore(tmp_path / "file")


def _create_all(root: Path, rival: int, keys: list[str], won: "multiprocessing.Queue[tuple[int, list[str]]]") -> None:
    store = DirectoryStore(root, durable=False)
    won.put((rival, [key for key in keys if store.create(key, b"%d" % rival)]))


def test_processes_race_for_keys(tmp_path: Path) -> None:
    keys = [f"log/{number:04d}" for number in range(300)]
    context = multiprocessing.get_context("fork")
    won: multiprocessing.Queue[tuple[int, list[str]]] = context.Queue()
    rivals = [context.Process(target=_create_all, args=(tmp_path, rival, keys, won)) for rival in range(4)]
    for rival in rivals:
        rival.start()
    answers = dict(won.get(timeout=60) for _ in rivals)
    for rival in rivals:
        rival.join()
    assert sorted(key for found in answers.values() for key in found) == keys
    store = DirectoryStore(tmp_path)
    assert all(store.get(key) == b"%d" % rival for rival, found in answers.items() for key in found)
