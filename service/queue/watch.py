"""Who is lost? A worker whose heartbeat did not change for a full TTL of the watcher's own time.

Never the age of a heartbeat by some clock: after an outage of the store every heartbeat is old, and every owner alive.
A watcher believes only what it saw: the same heartbeat in at least three reads that span the TTL, none of them failed
and none of them far apart. Any error of the store, and any long sleep of the watcher itself, starts it afresh.
"""

import hashlib
from dataclasses import dataclass, replace

from pydantic import ValidationError

from service.queue import keys
from service.queue.clock import Clock
from service.queue.hints import Hints
from service.queue.log import Head, JobLog
from service.queue.model import Heartbeat, QueueSettings
from service.store import KeyNotFound, Stat, Store, Unavailable

LONGEST_GAP = 2 / 3  # of the TTL between two reads: who slept longer does not know what happened meanwhile
ANNOUNCED_SECONDS = 86_400.0
PAGE = 100  # running jobs that one idle worker watches at a time


@dataclass(frozen=True, slots=True)
class Watch:
    """What a watcher saw of one running attempt."""

    head: Head
    fingerprint: str
    """Of the heartbeat's bytes; empty while there is none."""
    heartbeat: Heartbeat | None
    reads: int
    first_seconds: float
    last_seconds: float

    @property
    def unchanged_seconds(self) -> float:
        """How long this heartbeat was seen unchanged."""
        return self.last_seconds - self.first_seconds


class Watcher:
    """Reads the running jobs, one list and two gets a job, and remembers what it saw on its own monotonic clock."""

    def __init__(self, store: Store, log: JobLog, hints: Hints, settings: QueueSettings, *, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._hints = hints
        self._settings = settings
        self._clock = clock
        self._watches: dict[str, Watch] = {}
        self._page_after = ""
        self._page_since_seconds = clock.monotonic()

    @property
    def running(self) -> int:
        """Jobs under watch."""
        return len(self._watches)

    @property
    def suspects(self) -> list[str]:
        """Jobs whose heartbeat did not change for `suspect_seconds`: a worker that sees one should stay."""
        limit = self._settings.suspect_seconds
        return [watch.head.state.id for watch in self._watches.values() if watch.unchanged_seconds >= limit]

    def reset(self) -> None:
        """Start all windows afresh: the store failed, so what we did not see says nothing about anybody."""
        self._watches = {}

    def observe(self) -> list[Watch]:
        """Read every running job once; the lost ones. Puts hints right that are behind. Raises Unavailable."""
        try:
            return self._observe()
        except Unavailable:
            self.reset()
            raise

    def _observe(self) -> list[Watch]:
        seen: dict[str, Watch] = {}
        for stat in self._page():
            marker = keys.parse_marker(stat.key)
            if marker and (watch := self._read(stat, marker)):
                seen[stat.key] = watch
        self._watches = seen
        return [watch for watch in seen.values() if self._is_lost(watch)]

    def _is_lost(self, watch: Watch) -> bool:
        return watch.reads >= self._settings.minimum_reads and watch.unchanged_seconds >= self._settings.ttl_seconds

    def _page(self) -> list[Stat]:
        """The hints of running jobs, at most a page; with more of them the page moves on every second TTL."""
        found = [*self._store.list(keys.ACTIVE, limit=PAGE, start_after=self._page_after)]
        now = self._clock.monotonic()
        if not found or now - self._page_since_seconds > 2 * self._settings.ttl_seconds:
            self._page_after = found[-1].key if len(found) == PAGE else ""
            self._page_since_seconds = now
        return found

    def _read(self, hint: Stat, marker: keys.Marker) -> Watch | None:
        """What is there now, joined with what was seen before; None when nobody runs it under this hint any more."""
        key, before = hint.key, self._watches.get(hint.key)
        head = self._log.latest(before.head) if before else self._log.head(marker.job_id, marker.index)
        if head is None:
            self._clear_without_entry(hint, marker)
            return None
        if head.state.status != "claimed" or head.state.epoch != marker.index:
            self._settle(head, key)
            return None
        data = self._heartbeat(marker)
        fingerprint = hashlib.sha256(data).hexdigest() if data is not None else ""
        now = self._clock.monotonic()
        gap_seconds = now - before.last_seconds if before else 0.0
        if before and before.fingerprint == fingerprint and gap_seconds <= LONGEST_GAP * self._settings.ttl_seconds:
            return replace(before, head=head, reads=before.reads + 1, last_seconds=now)
        return Watch(head, fingerprint, parse_heartbeat(data), 1, now, now)

    def _clear_without_entry(self, hint: Stat, marker: keys.Marker) -> None:
        """The hint of a removed job goes at once; one that announces an entry may wait for it for a day."""
        age_seconds = self._store.server_time_seconds() - hint.modified_seconds
        is_announced = age_seconds < ANNOUNCED_SECONDS and self._store.stat(keys.log_entry(marker.job_id, 1))
        if not is_announced:
            self._store.delete(hint.key)

    def _settle(self, head: Head, stale: str) -> None:
        """A job whose results may not be written must not keep us from watching the others."""
        if not self._hints.settle_quietly(head.state, stale):
            problem = self._hints.problems[head.state.id]
            if isinstance(problem, Unavailable):
                raise problem

    def _heartbeat(self, marker: keys.Marker) -> bytes | None:
        try:
            return self._store.get(keys.heartbeat(marker.job_id, marker.index))
        except KeyNotFound:
            return None


def parse_heartbeat(data: bytes | None) -> Heartbeat | None:
    """The heartbeat, None when there is none or it is not one."""
    if data is None:
        return None
    try:
        return Heartbeat.model_validate_json(data)
    except ValidationError:
        return None
