"""`gankiln exporter`: the queue itself as metrics, so that its depth is visible while no worker runs. Reads only.

Workers at zero replicas cannot tell how much waits; autoscalers ask here: /metrics, or /queue as JSON.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.errors import GankilnError
from service.queue import JobState, Queue, keys
from service.queue.log import JobLog
from service.queue.watch import parse_heartbeat
from service.store import KeyNotFound, Store
from service.studies import open_studies
from service.telemetry import catalogue as c
from service.telemetry.logs import Log
from service.telemetry.recorder import Recorder

CLASSES = ("high", "normal", "low")


def priority_class(priority: int) -> str:
    """Few label values instead of a hundred priorities."""
    return "high" if priority >= 70 else "normal" if priority >= 30 else "low"


@dataclass
class _Seen:
    """A heartbeat, and since when it looks like that."""

    content: bytes
    since_seconds: float


class Exporter:
    """Scans the queue at intervals and keeps the numbers."""

    def __init__(self, queue: Queue, log: Log) -> None:
        self.recorder = Recorder(c.QUEUE_METRICS)
        self._queue = queue
        self._log = log
        self._store: Store = queue.store
        self._job_log: JobLog = queue.log
        self._beats: dict[str, _Seen] = {}
        self._running: dict[str, JobState] = {}
        self._known: dict[str, set[str]] = {}
        self._last_seconds = time.monotonic()
        self._problem: str | None = "the first scan is not done"
        self.numbers: dict[str, Any] = {}
        """The last scan, for /queue."""

    def run(self, seconds: float, should_stop: Callable[[float], bool]) -> None:
        """Scans until `should_stop`, which waits that long for a reason to stop."""
        while True:
            self.scan()
            if should_stop(seconds):
                return

    def scan(self) -> None:
        """One look at everything; an error of the store keeps the last numbers and their time."""
        started = time.monotonic()
        try:
            self._count_waiting()
            self._count_running()
            self._count_studies()
            self._count_new("done", self._recently_done(), self._ended)
            self._count_new(
                "rejected", self._rejected(), lambda _key: self.recorder.add(c.SPECS_REJECTED, 1, "spec_refused")
            )
        except GankilnError as error:
            self._problem = error.message
            self._log.warning(error.message, action="scan_failed")
            return
        self._problem = None
        self._last_seconds = time.monotonic()
        self.recorder.set(c.SCAN_SUCCESS, time.time())
        self.recorder.set(c.SCAN_SECONDS, time.monotonic() - started)

    def unready(self) -> str | None:
        """For /readyz: why the numbers are not to be trusted."""
        return self._problem

    def _count_waiting(self) -> None:
        depth = self._queue.depth()
        ready = dict.fromkeys(CLASSES, 0)
        for priority, count in depth.ready.items():
            ready[priority_class(priority)] += count
        self.recorder.forget([c.QUEUE_OLDEST])
        for priority, since in sorted(depth.oldest_ready_seconds.items()):
            name = priority_class(priority)
            before = self.recorder.value(c.QUEUE_OLDEST, name)
            self.recorder.set(c.QUEUE_OLDEST, since if before is None else min(before, since), name)
        for name, count in ready.items():
            self.recorder.set(c.QUEUE_JOBS, count, "claimable", name)
        self.recorder.set(c.QUEUE_DELAYED, depth.delayed)
        self.recorder.set(c.QUEUE_PAUSED, depth.paused)
        self.recorder.set(c.QUEUE_INBOX, depth.inbox)
        self.recorder.set(c.DEAD_JOBS, depth.dead)
        self.numbers = {"claimable": depth.waiting + depth.inbox, "delayed": depth.delayed, "paused": depth.paused}

    def _count_running(self) -> None:
        """Running jobs, and suspects among them: their heartbeat looks the same for half a TTL of our own clock."""
        hints = [stat.key for stat in self._store.list(keys.ACTIVE)]
        self._running = {key: self._running.get(key) or state for key in hints if (state := self._state(key))}
        self._beats = {key: self._look(key) for key in self._running}
        now, limit = time.monotonic(), self._queue.settings.suspect_seconds
        suspects = {key for key, seen in self._beats.items() if now - seen.since_seconds >= limit}
        for name in CLASSES:
            members = {key for key, state in self._running.items() if priority_class(state.priority) == name}
            self.recorder.set(c.QUEUE_JOBS, len(members - suspects), "running", name)
            self.recorder.set(c.QUEUE_JOBS, len(members & suspects), "suspect", name)
        self.recorder.set(c.WORKERS, len(self._running) - len(suspects), "running")
        self.recorder.set(c.WORKERS, len(suspects), "suspect")
        self._tell_oldest_beat()
        self.numbers |= {"running": len(self._running) - len(suspects), "suspect": len(suspects)}
        self.numbers["wanted"] = self.numbers["claimable"] + len(self._running)

    def _count_studies(self) -> None:
        """Runs of the open studies by state, and the best value so far: two gets a study."""
        self.recorder.forget([c.STUDY_RUNS, c.STUDY_BEST])
        for study in open_studies(self._queue):
            for state, count in study.runs.items():
                self.recorder.set(c.STUDY_RUNS, count, study.name, state)
            if study.best is not None:
                self.recorder.set(c.STUDY_BEST, study.best, study.name, study.metric, study.features or "")

    def _state(self, hint: str) -> JobState | None:
        """The claim behind a hint, read once an attempt."""
        if known := self._running.get(hint):
            return known
        marker = keys.parse_marker(hint)
        head = self._job_log.head(marker.job_id, marker.index) if marker else None
        return head.state if head and head.state.status == "claimed" else None

    def _look(self, hint: str) -> _Seen:
        marker = keys.parse_marker(hint)
        assert marker
        try:
            content = self._store.get(keys.heartbeat(marker.job_id, marker.index))
        except KeyNotFound:
            content = b""
        before = self._beats.get(hint)
        return before if before and before.content == content else _Seen(content, time.monotonic())

    def _tell_oldest_beat(self) -> None:
        beats = [beat.time_seconds for seen in self._beats.values() if (beat := parse_heartbeat(seen.content or None))]
        self.recorder.forget([c.OLDEST_HEARTBEAT])
        if beats:
            self.recorder.set(c.OLDEST_HEARTBEAT, min(beats))

    def _count_new(self, what: str, found: set[str], tell: Callable[[str], None]) -> None:
        """What was not there at the last scan; what was there at the first one is history."""
        known = self._known.get(what)
        for key in found - known if known is not None else ():
            tell(key)
        self._known[what] = found

    def _recently_done(self) -> set[str]:
        """Of today and yesterday, by the clock of the store."""
        now = self._store.server_time_seconds()
        days = {time.strftime("%Y/%m/%d", time.gmtime(now - back)) for back in (0, 86_400)}
        return {stat.key for day in days for stat in self._store.list(f"{keys.DONE}{day}/")}

    def _rejected(self) -> set[str]:
        return {
            f"{stat.key} {stat.etag}" for stat in self._store.list(keys.REJECTED) if stat.key.endswith(".error.txt")
        }

    def _ended(self, key: str) -> None:
        if parsed := keys.parse_done(key):
            self.recorder.add(c.JOBS_FINISHED, 1, parsed[1])
