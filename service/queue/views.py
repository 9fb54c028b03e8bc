"""What people ask of the queue: how much is there, where is my job, and why is it there."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import assert_never

from pydantic import BaseModel

from service.queue import keys
from service.queue.errors import JobGone, JobNotFound
from service.queue.log import Head, JobLog
from service.queue.model import Entry, Heartbeat, JobState, QueueSettings, is_job_id
from service.queue.reasons import REASONS, Reason
from service.queue.watch import parse_heartbeat
from service.store import KeyNotFound, Stat, Store


class JobView(BaseModel):
    """One job as it is now."""

    state: JobState
    heartbeat: Heartbeat | None = None
    """Of the running attempt, or of the last one."""
    heartbeat_age_seconds: float | None = None
    """By the clock of the store: for display."""
    history: list[Entry] = []
    """All entries, oldest first; empty in lists."""


class Depth(BaseModel):
    """How much is there, from hints alone: one list a kind, a thousand names a request."""

    inbox: int
    ready: dict[int, int]
    """Priority -> jobs that a worker could take now."""
    delayed: int
    """Jobs in a back-off."""
    oldest_ready_seconds: dict[int, float]
    """Priority -> unix time of its oldest claimable job's place in the queue."""
    running: int
    paused: int
    dead: int

    @property
    def waiting(self) -> int:
        return sum(self.ready.values())


class Overview(BaseModel):
    """What `gankiln status` prints."""

    depth: Depth
    running: list[JobView]
    waiting: list[JobView]
    paused: list[JobView]
    finished: list[JobView]


class Why(BaseModel):
    """Where a job is and why, in sentences."""

    id: str
    status: str
    sentence: str
    details: list[str]
    next_command: str


class Views:
    """Reads only; never repairs, so that it works with credentials that may only read."""

    def __init__(self, store: Store, log: JobLog, settings: QueueSettings) -> None:
        self._store = store
        self._log = log
        self._settings = settings

    def find(self, job: str) -> str:
        """The id of a job by its id, the beginning of its id (6 letters or more), or its name (the newest).

        Raises JobNotFound, JobGone.
        """
        if is_job_id(job):
            return job
        if named := self.named(job):
            return named[-1]
        if len(job) >= 6 and job.isalnum() and len(found := self._ids_beginning(job)) == 1:
            return found[0]
        raise JobNotFound(f"{job}: there is no job of this id or name", hint="gankiln status lists them")

    def named(self, name: str) -> list[str]:
        """Ids of the jobs of a name, oldest first."""
        if keys.slug(name) != name:
            return []
        found = (stat.key.rpartition("/")[2] for stat in self._store.list(f"names/{name}/"))
        return [job_id for job_id in found if is_job_id(job_id)]

    def job(self, job: str) -> JobView:
        """One job with its whole history. Raises JobNotFound, JobGone."""
        job_id = self.find(job)
        head = self._head(job_id)
        view = self._view(head.state)
        return view.model_copy(update={"history": self._log.history(job_id)})

    def depth(self) -> Depth:
        now = self._store.server_time_seconds()
        ready: Counter[int] = Counter()
        oldest: dict[int, float] = {}
        delayed = 0
        for stat in self._store.list(keys.READY):
            if place := keys.parse_ready(stat.key):
                priority, queued_seconds = place
                if queued_seconds > now:
                    delayed += 1
                else:
                    ready[priority] += 1
                    oldest.setdefault(priority, queued_seconds)
        return Depth(
            inbox=self._count(keys.INBOX),
            ready=dict(ready),
            delayed=delayed,
            oldest_ready_seconds=oldest,
            running=self._count(keys.ACTIVE),
            paused=self._count(keys.PAUSED),
            dead=self._count(keys.DEAD),
        )

    def overview(self, *, limit: int = 20, days: int = 2) -> Overview:
        """Depth, and up to `limit` jobs of each kind with their states; finished ones of the last `days`."""
        return Overview(
            depth=self.depth(),
            running=self._views(self._store.list(keys.ACTIVE, limit=limit)),
            waiting=self._views(self._store.list(keys.READY, limit=limit)),
            paused=self._views(self._store.list(keys.PAUSED, limit=limit)),
            finished=self.finished(limit=limit, days=days),
        )

    def finished(self, *, limit: int = 20, days: int = 2) -> list[JobView]:
        """The jobs that ended last, newest first."""
        today = datetime.fromtimestamp(self._store.server_time_seconds(), UTC)
        stats: list[Stat] = []
        for back in range(days):
            stats.extend(self._store.list(f"{keys.DONE}{today - timedelta(days=back):%Y/%m/%d}/"))
        stats.sort(key=lambda stat: stat.modified_seconds, reverse=True)
        # A job that was tried again may have left the hint of its earlier end.
        return [view for view in self._views(iter(stats[:limit])) if view.state.terminal]

    def running(self) -> list[JobView]:
        """All running jobs with their heartbeats."""
        return self._views(self._store.list(keys.ACTIVE))

    def why(self, job: str) -> Why:
        """Why a job is where it is. Raises JobNotFound, JobGone."""
        job_id = self.find(job)
        head = self._log.head(job_id)
        if head is None and self._is_in_inbox(job_id):
            sentence = "It lies in the inbox; the next worker that polls reads it."
            return Why(id=job_id, status="inbox", sentence=sentence, details=[], next_command=f"gankiln why {job_id}")
        state = (head or self._head(job_id)).state
        sentence, details, command = self._explain(state)
        details += [f"{entry.kind}: {entry.note}" for entry in self._log.history(job_id)[-5:] if entry.note]
        return Why(id=job_id, status=state.status, sentence=sentence, details=details, next_command=command)

    def _explain(self, state: JobState) -> tuple[str, list[str], str]:
        match state.status:
            case "queued":
                return self._explain_queued(state)
            case "claimed":
                return self._explain_claimed(state)
            case "paused":
                return "Somebody paused it.", [], f"gankiln resume {state.id}"
            case "succeeded":
                return f"It succeeded in attempt {state.attempts}.", [], f"gankiln results {state.id}"
            case "failed" | "cancelled" | "dead":
                return *_explain_ended(state), REASONS[_reason(state)].next_command.format(id=state.id, name=state.name)
            case _:
                assert_never(state.status)

    def _explain_queued(self, state: JobState) -> tuple[str, list[str], str]:
        now = self._store.server_time_seconds()
        details = [f"priority {state.priority}, attempts so far {state.attempts}"]
        if state.failure:
            details.append(f"the last failure: {state.failure.reason}: {state.failure.message}")
        if state.avoid_nodes:
            details.append(f"avoids for a while: {', '.join(state.avoid_nodes)}")
        if state.queued_seconds > now:
            wait = state.queued_seconds - now
            return f"It waits {wait:.0f} s more after a failure (back-off).", details, f"gankiln logs {state.id}"
        ahead = self._ahead_of(state)
        sentence = (
            f"{ahead} jobs are before it." if ahead else "It is the next one; a worker takes it when one is free."
        )
        return sentence, details, "gankiln status"

    def _ahead_of(self, state: JobState) -> int:
        mine, now, ahead = keys.marker(state), self._store.server_time_seconds(), 0
        for stat in self._store.list(keys.READY):
            if stat.key >= mine:
                break
            place = keys.parse_ready(stat.key)
            ahead += place is not None and place[1] <= now
        return ahead

    def _explain_claimed(self, state: JobState) -> tuple[str, list[str], str]:
        view = self._view(state)
        where = f"{state.worker} on {state.node}" if state.node else state.worker
        details = [f"attempt {state.attempts}, of which {state.lost} were lost with their worker"]
        if state.cancel:
            details.append(f"asked to stop: {state.cancel.message or state.cancel.reason}")
        if view.heartbeat is None or view.heartbeat_age_seconds is None:
            return f"{where} has just taken it.", details, f"gankiln logs {state.id}"
        progress = view.heartbeat.progress
        details.append(f"{progress.phase}, {progress.images} images; {progress.last_line}")
        if view.heartbeat_age_seconds > self._settings.ttl_seconds:
            sentence = (
                f"{where} has not been heard for {view.heartbeat_age_seconds:.0f} s; another worker takes it over "
                f"once it has seen that for {self._settings.ttl_seconds:.0f} s."
            )
            return sentence, details, "gankiln status"
        return f"{where} runs it.", details, f"gankiln logs {state.id}"

    def _head(self, job_id: str) -> Head:
        head = self._log.head(job_id)
        if head is not None:
            return head
        if self._store.stat(keys.tombstone(job_id)):
            raise JobGone(f"{job_id}: this job was removed when its retention ended")
        raise JobNotFound(f"{job_id}: there is no such job", hint="gankiln status lists them")

    def _views(self, stats: Iterator[Stat]) -> list[JobView]:
        markers = (keys.parse_marker(stat.key) for stat in stats)
        heads = (self._log.head(marker.job_id, marker.index) for marker in markers if marker)
        return [self._view(head.state) for head in heads if head]

    def _view(self, state: JobState) -> JobView:
        if state.epoch == 0:
            return JobView(state=state)
        try:
            beat = parse_heartbeat(self._store.get(keys.heartbeat(state.id, state.epoch)))
        except KeyNotFound:
            beat = None
        age = self._store.server_time_seconds() - beat.time_seconds if beat else None
        return JobView(state=state, heartbeat=beat, heartbeat_age_seconds=age)

    def _count(self, prefix: str) -> int:
        return sum(1 for _ in self._store.list(prefix))

    def _is_in_inbox(self, job_id: str) -> bool:
        return any(keys.ticket(stat.key) == job_id for stat in self._store.list(keys.INBOX))

    def _ids_beginning(self, beginning: str) -> list[str]:
        found = {stat.key.split("/")[1] for stat in self._store.list(f"jobs/{beginning}", limit=200)}
        return sorted(job_id for job_id in found if is_job_id(job_id))


def _reason(state: JobState) -> Reason:
    return state.failure.reason if state.failure else "internal_error"


def _explain_ended(state: JobState) -> tuple[str, list[str]]:
    facts = REASONS[_reason(state)]
    details = [f"{state.attempts} attempts, {state.failures} failures, {state.lost} lost workers"]
    if state.failure:
        details.append(state.failure.message)
        if state.failure.hint:
            details.append(f"hint: {state.failure.hint}")
    return facts.sentence, details
