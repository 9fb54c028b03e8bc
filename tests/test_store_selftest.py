"""The self-test lets good stores pass and refuses each kind of broken one with one sentence and a remedy."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import GankilnError
from service.store import DirectoryStore, MemoryStore, Stat, Unavailable, UnsafeStore, open_store
from service.store.selftest import ROUNDS, check_store
from tests.s3_servers import GOOD_SERVERS, ServerName, environment_of, s3_server


def test_good_stores_pass_and_are_left_clean(tmp_path: Path) -> None:
    for store in (MemoryStore(), DirectoryStore(tmp_path)):
        assert check_store(store).rounds == ROUNDS
        assert [*store.list("")] == []


@pytest.mark.s3
@pytest.mark.parametrize("name", GOOD_SERVERS)
def test_good_servers_pass(name: ServerName) -> None:
    server = s3_server(name)
    with environment_of(server):
        assert check_store(open_store(f"s3://{server.make_bucket()}")).seconds < 30


@pytest.mark.s3
def test_a_server_that_ignores_the_condition_is_refused() -> None:
    server = s3_server("rclone")
    with environment_of(server), pytest.raises(UnsafeStore, match="If-None-Match") as error:
        check_store(open_store(f"s3://{server.make_bucket()}"))
    assert error.value.hint is not None
    assert "unsafe-single-worker" in error.value.hint


class Overwrites(MemoryStore):
    """Answers 200 to a conditional put, and overwrites, as several S3 clones do."""

    def create(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True


class ChecksThenSets(MemoryStore):
    """Right one request at a time, wrong for two at once, as Swift's S3 layer."""

    def create(self, key: str, data: bytes) -> bool:
        if self.stat(key):
            return False
        time.sleep(0.01)
        self.put(key, data)
        return True


class Stale(MemoryStore):
    """Behind a cache: reads return the version before last."""

    def __init__(self) -> None:
        super().__init__()
        self._older: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        if self.stat(key):
            self._older[key] = super().get(key)
        super().put(key, data)

    def get(self, key: str) -> bytes:
        return self._older.get(key) or super().get(key)


class ListsLate(MemoryStore):
    """New keys show up in lists only later."""

    def list(self, prefix: str, *, limit: int | None = None, start_after: str = "") -> Iterator[Stat]:
        return iter([*super().list(prefix, limit=limit, start_after=start_after)][:-1])


class Unsorted(MemoryStore):
    """Lists in any order."""

    def list(self, prefix: str, *, limit: int | None = None, start_after: str = "") -> Iterator[Stat]:
        return iter([*super().list(prefix, limit=limit, start_after=start_after)][::-1])


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        (Overwrites(), "ignores"),
        (ChecksThenSets(), "not atomically"),
        (Stale(), "overwritten already"),
        (ListsLate(), "list does not show"),
        (Unsorted(), "list does not show"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_broken_stores_are_refused(store: MemoryStore, sentence: str) -> None:
    with pytest.raises(UnsafeStore, match=sentence) as error:
        check_store(store)
    assert error.value.hint
    assert error.value.message.count(". ") == 0  # one sentence
    assert error.value.exit_code == 78


class Shaky(MemoryStore):
    """Answers some creates of a race with an error although they won."""

    def __init__(self, silent: int) -> None:
        super().__init__()
        self._silent = silent
        self._count = 0
        self._counting = threading.Lock()

    def create(self, key: str, data: bytes) -> bool:
        won = super().create(key, data)
        if "race" in key:
            with self._counting:
                self._count += 1
                if self._count % 4 < self._silent:
                    raise Unavailable("500")
        return won


def test_unclear_answers_in_a_race_are_allowed_and_counted() -> None:
    assert check_store(Shaky(1)).uncertain == ROUNDS


def test_a_store_that_never_answers_is_unavailable_and_not_unsafe() -> None:
    with pytest.raises(Unavailable) as error:
        check_store(Shaky(4))
    assert isinstance(error.value, GankilnError)
