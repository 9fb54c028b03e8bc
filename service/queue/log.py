"""The log of a job: create-if-absent at the next free index is the only way in which a job ever changes."""

import uuid
from dataclasses import dataclass
from random import Random

from pydantic import ValidationError

from service.queue import keys
from service.queue.clock import Clock
from service.queue.errors import JobGone
from service.queue.model import Entry, EntryKind, JobState
from service.queue.reasons import Interruption
from service.store import KeyNotFound, Store, Unavailable

APPEND_TRIES = 5
PAUSE_SECONDS = 0.2  # doubled with each try, full jitter: 0.2 to 3.2 s


@dataclass(frozen=True, slots=True)
class Head:
    """How far a log was read: the last valid entry, and the last index that is taken.

    The two differ when somebody wrote rubbish into the log: everybody steps over it in the same way.
    """

    index: int
    entry: Entry

    @property
    def state(self) -> JobState:
        return self.entry.state


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry before it has an index."""

    kind: EntryKind
    note: str
    nonce: str
    interruption: Interruption | None = None


class JobLog:
    """Reads and appends. `writer` is the worker or person that signs the entries."""

    def __init__(self, store: Store, *, writer: str, clock: Clock, random: Random) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._random = random

    def head(self, job_id: str, start: int | None = None) -> Head | None:
        """The end of the log; None when there is no job. From index `start` on, which a hint gave, or by a list."""
        first = self._read(job_id, start) if start else None
        if not isinstance(first, Entry):
            return self._head_by_list(job_id) if start is None or first else None
        return self.latest(Head(first.index, first))

    def latest(self, head: Head) -> Head:
        """The end of the log, read on from `head`."""
        while following := self.next(head):
            head = following
        return head

    def next(self, head: Head) -> Head | None:
        """The log one index further; None when that index is still free."""
        found = self._read(head.state.id, head.index + 1)
        match found:
            case None:
                return None
            case Entry():
                return Head(found.index, found)
            case _:
                return Head(head.index + 1, head.entry)

    def history(self, job_id: str) -> list[Entry]:
        """All valid entries, oldest first."""
        entries = (self._read(job_id, index) for index in range(1, self._length(job_id) + 1))
        return [entry for entry in entries if isinstance(entry, Entry)]

    def nonce(self) -> str:
        """Unique to one write or one lease."""
        return uuid.UUID(int=self._random.getrandbits(128)).hex

    def append(self, index: int, draft: Draft, state: JobState) -> Head | None:
        """Create the entry at `index`: the new head when it is ours, None when the index is taken by another.

        A lost answer is settled by reading the index back: the same bytes, nonce and all, mean that it was ours.
        Raises Unavailable when that could not be settled, JobGone when the job was removed meanwhile.
        """
        entry = self.entry(index, draft, state)
        data = entry.model_dump_json(exclude_defaults=True).encode()
        if not self._create(keys.log_entry(state.id, index), data):
            return None
        self._check_tombstone(state.id, index)
        return Head(index, entry)

    def entry(self, index: int, draft: Draft, state: JobState) -> Entry:
        """The entry that `append` writes, signed and timed."""
        return Entry(
            index=index,
            kind=draft.kind,
            nonce=draft.nonce,
            writer=self._writer,
            time_seconds=round(self._store.server_time_seconds(), 3),
            note=draft.note,
            interruption=draft.interruption,
            state=state,
        )

    def _create(self, key: str, data: bytes) -> bool:
        """Create-if-absent whose answer is always known. Raises Unavailable when it is not."""
        trouble: Unavailable | None = None
        for attempt in range(APPEND_TRIES):
            if trouble:
                self._clock.sleep(self._random.uniform(0, PAUSE_SECONDS * 2**attempt))
            try:
                if self._store.create(key, data):
                    return True
                return self._is_mine(self._store.get(key), data)
            except KeyNotFound:
                trouble = Unavailable(f"{key}: exists and does not exist")
            except Unavailable as error:
                trouble = error
        assert trouble
        raise trouble

    def _is_mine(self, found: bytes, data: bytes) -> bool:
        """Whether what is there is what we wanted to write: each entry has its own nonce."""
        return found == data

    def _check_tombstone(self, job_id: str, index: int) -> None:
        """A job that was removed while we slept has free indexes again: an append to it does not count.

        The remover writes the tombstone first, so an append after any of its deletions sees it here.
        """
        if self._store.stat(keys.tombstone(job_id)):
            self._store.delete(keys.log_entry(job_id, index))
            raise JobGone(f"{job_id}: this job was removed when its retention ended")

    def _head_by_list(self, job_id: str) -> Head | None:
        length = self._length(job_id)
        for index in range(length, 0, -1):
            if isinstance(found := self._read(job_id, index), Entry):
                return Head(length, found)
        return None

    def _length(self, job_id: str) -> int:
        """The indexes 1 to n are taken; what lies beyond a gap was never appended by the rules."""
        length = 0
        for stat in self._store.list(keys.log_folder(job_id)):
            if stat.key == keys.log_entry(job_id, length + 1):
                length += 1
        return length

    def _read(self, job_id: str, index: int) -> "Entry | Rubbish | None":
        try:
            data = self._store.get(keys.log_entry(job_id, index))
        except KeyNotFound:
            return None
        try:
            entry = Entry.model_validate_json(data)
        except ValidationError:
            return Rubbish()
        return entry if (entry.index, entry.state.id) == (index, job_id) else Rubbish()


class Rubbish:
    """An object in a log that is no entry of it."""
