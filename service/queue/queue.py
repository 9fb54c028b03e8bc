"""The queue on a store: what a worker, a person and an exporter can do with it. Read this first.

One append-only log a job is the truth, and creating its next free index is the only way to change a job (log.py). All
else are hints, which anybody puts right (hints.py). Nobody's clock decides who owns a job (watch.py).
"""

from collections.abc import Callable
from random import Random, SystemRandom

from jobs.errors import GankilnError, StoreError
from service.queue import keys, transitions
from service.queue.clock import Clock, SystemClock
from service.queue.errors import JobGone, JobNotFound, NotPossible
from service.queue.hints import Hints
from service.queue.ingest import Inbox, IngestReport, Validate, Verb
from service.queue.lease import Lease
from service.queue.log import Draft, Head, JobLog
from service.queue.model import PRIORITIES, CancelRequest, Checkpoint, EntryKind, JobState, QueueSettings, SpecFacts
from service.queue.retention import Retention
from service.queue.views import Depth, JobView, Overview, Views, Why
from service.queue.watch import Watch, Watcher
from service.store import Store

READY_PAGE = 100
CLAIM_TRIES = 8  # rivals may be faster this often before a poll gives up
REFUSED = 10_000  # jobs that a worker remembers it cannot run
CHOOSE_FROM = 4  # after a lost race one of the best few of the same priority, so that rivals part
IDLE_OBSERVE_EVERY = 4  # with nothing running, every 4th poll looks whether something is
CHORE_EVERY = 40  # polls; each chore takes the place of one look into the inbox

Accept = Callable[[JobState], bool]


def accept_all(state: JobState) -> bool:
    """A worker that takes any job."""
    return True


class Queue:
    """One worker's (or person's) view of the queue.

    A worker calls `poll` about every `next_poll_seconds()`, and runs the lease it may get. Nothing is lost between the
    steps of any method: whatever a crash leaves half done, another worker completes.
    """

    def __init__(
        self,
        store: Store,
        *,
        worker_id: str,
        node: str = "",
        settings: QueueSettings | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self.store = store
        self.worker_id = worker_id
        self.node = node
        self.settings = settings or QueueSettings()
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self.log = JobLog(store, writer=worker_id, clock=self._clock, random=self._random)
        self.hints = Hints(store, self.settings)
        self.views = Views(store, self.log, self.settings)
        self._watcher = Watcher(store, self.log, self.hints, self.settings, clock=self._clock)
        self._inbox = Inbox(store, self.log, self.hints, self.settings, control=self._control)
        self._retention = Retention(store, self.log, self.settings)
        self._ready_after = ""
        self._refused: set[str] = set()
        self._polls = 0
        self.last_ingest = IngestReport()
        """What the last look into the inbox did, for logs and metrics."""

    # What a worker does.

    def poll(self, validate: Validate, accept: Accept = accept_all) -> Lease | None:
        """Ingest, take over what is lost, else claim what waits: at most three list requests.

        Raises Unavailable (or another StoreError) when the store fails; then every suspicion starts afresh.
        """
        self._polls += 1
        try:
            if not self._do_chore():
                self.last_ingest = self.ingest(validate)
            lease = None
            if self._watcher.running or self._polls % IDLE_OBSERVE_EVERY == 1:
                lease = self.take_over(accept)
            return lease or self.claim(accept)
        except StoreError:
            self._watcher.reset()
            raise

    def next_poll_seconds(self) -> float:
        """How long an idle worker sleeps: the poll interval +-50 %, a third of that while a worker is suspected."""
        seconds = self._random.uniform(0.5, 1.5) * self.settings.poll_seconds
        return seconds / 3 if self._watcher.suspects else seconds

    @property
    def problems(self) -> dict[str, GankilnError]:
        """Job -> why its results or hints could not be put right. For logs: it is tried again with every look."""
        return self.hints.problems

    @property
    def suspects(self) -> list[str]:
        """Running jobs whose worker may be lost; a worker that sees one should not exit for being idle."""
        return self._watcher.suspects

    def ingest(self, validate: Validate) -> IngestReport:
        """Make jobs of what lies in the inbox; reject what is not one; obey control files."""
        return self._inbox.ingest(validate)

    def claim(self, accept: Accept = accept_all) -> Lease | None:
        """The best waiting job that this worker accepts, now its own; None when there is none.

        Highest priority first, then the oldest. One list; then a get and a create a try.
        """
        candidates = self._candidates()
        for attempt in range(min(CLAIM_TRIES, len(candidates))):
            if lease := self._claim(candidates.pop(self._choose(candidates, attempt)), accept):
                return lease
        return None

    def observe(self) -> list[Watch]:
        """Look at every running job once; the ones whose worker is lost. Repairs hints on the way."""
        return self._watcher.observe()

    def take_over(self, accept: Accept = accept_all) -> Lease | None:
        """Observe, and take over the first lost job that this worker accepts."""
        for watch in self.observe():
            if accept(watch.head.state) and (lease := self._take_over(watch)):
                return lease
        return None

    def repair(self) -> None:
        """Put right the hints of paused jobs, which no poll looks at otherwise: one list."""
        for stat in [*self.store.list(keys.PAUSED)]:
            marker = keys.parse_marker(stat.key)
            head = self.log.head(marker.job_id, marker.index) if marker else None
            if head and keys.marker(head.state) != stat.key:
                self.hints.settle(head.state, stale=stat.key)

    def sweep(self) -> list[str]:
        """Delete what retention says; the ids of the jobs it touched: one list when nothing is due."""
        return self._retention.sweep()

    # What a person asks for.

    def submit(self, spec: bytes, name: str) -> str:
        """Drop a spec into the inbox; the id that its job will have. `name` only makes the file name readable."""
        seed = self._random.getrandbits(128).to_bytes(16, "big") + spec
        job_id = keys.job_id(self.store.server_time_seconds(), seed)
        self.store.put(f"{keys.INBOX}{keys.slug(name)}.{job_id}.yaml", spec)
        return job_id

    def add(self, job_id: str, facts: SpecFacts, spec: bytes, source: str) -> None:
        """Make a job without the inbox, under an id that follows from `source`. Safe to repeat, by anyone."""
        self._inbox.add(job_id, facts, spec, source)

    def cancel(self, job: str, message: str = "") -> JobState:
        """Ask a running job to stop, or take a waiting one out. Raises JobNotFound, NotPossible."""
        return self._request_cancel(job, CancelRequest(message=message))

    def prune(self, job: str, message: str) -> JobState:
        """`cancel`, because a search gives the job up."""
        return self._request_cancel(job, CancelRequest(reason="pruned", message=message))

    def pause(self, job: str) -> JobState:
        """Ask a running job to checkpoint and stop, or hold a waiting one back, until `resume`."""
        return self._amend(job, transitions.pause_requested, "pause")

    def resume(self, job: str) -> JobState:
        """Let a paused job go on, at the place in the queue that it had."""
        return self._amend(job, transitions.resumed, "resume")

    def prioritise(self, job: str, priority: int) -> JobState:
        """Give a job another priority, 0 to 99, larger first."""
        if priority not in PRIORITIES:
            raise NotPossible(f"priority: must be 0 to 99, is {priority}")
        return self._amend(
            job, lambda state, index: transitions.prioritised(state, index, priority=priority), f"priority {priority}"
        )

    def retry(self, job: str, *, from_checkpoint: bool = True) -> JobState:
        """Queue a failed, cancelled or dead job again, with fresh budgets, from its last checkpoint or from nothing."""
        now = self.store.server_time_seconds()
        note = "tried again from " + ("its last checkpoint" if from_checkpoint else "nothing")
        state = self._amend(
            job,
            lambda state, index: transitions.revived(state, index, from_checkpoint=from_checkpoint, now_seconds=now),
            note,
            kind="revive",
        )
        self.hints.forget_ending(state)
        return state

    def make_folders(self) -> None:
        """Make the inbox visible where the store has folders, so that people can drop into it."""
        self.store.make_folder(keys.INBOX)

    def depth(self) -> Depth:
        return self.views.depth()

    def status(self, *, limit: int = 20) -> Overview:
        return self.views.overview(limit=limit)

    def find(self, job: str) -> str:
        """The id of a job by its id, the beginning of its id, or its name (then the newest). Raises JobNotFound."""
        return self.views.find(job)

    def job(self, job: str) -> JobView:
        return self.views.job(job)

    def why(self, job: str) -> Why:
        return self.views.why(job)

    # How.

    def _candidates(self) -> list[str]:
        """Hints of jobs that may be claimed now, best first.

        A full page of jobs that all wait for their back-off must not hide what comes after it: the next look begins
        with the next priority.
        """
        now = self.store.server_time_seconds()
        listed = [stat.key for stat in self.store.list(keys.READY, limit=READY_PAGE, start_after=self._ready_after)]
        due = [key for key in listed if (place := keys.parse_ready(key)) and place[1] <= now]
        wanted = [key for key in due if key not in self._refused]
        self._ready_after = ""
        if len(listed) == READY_PAGE and not wanted:
            self._ready_after = listed[-1] if due else keys.after_class(listed[-1])
        return wanted

    def _choose(self, candidates: list[str], attempt: int) -> int:
        """The first; after a lost race any of the best few of its priority, so that rivals part."""
        if attempt == 0:
            return 0
        rank = candidates[0][: len("ready/00/")]
        alike = sum(key.startswith(rank) for key in candidates[:CHOOSE_FROM])
        return self._random.randrange(alike)

    def _refuses(self, key: str, state: JobState, accept: Accept) -> bool:
        """Jobs that this worker cannot run are not read again at every poll."""
        if accept(state):
            return False
        if len(self._refused) >= REFUSED:
            self._refused.clear()
        self._refused.add(key)
        return True

    def _claim(self, key: str, accept: Accept) -> Lease | None:
        """The job behind a ready hint; None when it is not to be had, and then the hint is put right."""
        marker = keys.parse_marker(key)
        head = self.log.head(marker.job_id, marker.index) if marker else None
        if head is None:
            self.store.delete(key)  # the job was removed
            return None
        if keys.marker(head.state) != key:
            self.hints.settle(head.state, stale=key)
            return None
        if self._waited_too_long(head) or self._refuses(key, head.state, accept) or self._avoids_me(head.state):
            return None
        now = self.store.server_time_seconds()
        index = head.index + 1
        state = transitions.claimed(head.state, index, worker=self.worker_id, node=self.node, now_seconds=now)
        return self._append_claim(head, "claim", state, f"attempt {state.attempts} by {self.worker_id}")

    def _append_claim(self, head: Head, kind: EntryKind, state: JobState, note: str) -> Lease | None:
        try:
            claimed = self.log.append(head.index + 1, Draft(kind, note, self.log.nonce()), state)
        except JobGone:
            return None
        if claimed is None:
            return None
        self.hints.settle_quietly(state, stale=keys.marker(head.state))
        return self._lease(claimed) if state.status == "claimed" else None

    def _lease(self, head: Head) -> Lease:
        return Lease(self.store, self.log, self.hints, head, clock=self._clock, backoff=self._backoff_seconds)

    def _take_over(self, watch: Watch) -> Lease | None:
        """Claim from a lost worker; a cancel, a pause or a budget may say that nobody runs the job instead."""
        beat = watch.heartbeat
        state = transitions.taken_over(
            watch.head.state,
            watch.head.index + 1,
            worker=self.worker_id,
            node=self.node,
            now_seconds=self.store.server_time_seconds(),
            checkpoint=self._own_checkpoint(watch),
            lost_seconds=beat.seconds if beat else 0.0,
        )
        silent = f"{watch.head.state.worker} was silent for {watch.unchanged_seconds:.0f} s"
        return self._append_claim(watch.head, "take_over", state, silent)

    def _own_checkpoint(self, watch: Watch) -> Checkpoint | None:
        """The last checkpoint the lost attempt told of, if it lies below its own prefix."""
        checkpoint = watch.heartbeat.progress.checkpoint if watch.heartbeat else None
        prefix = watch.head.state.attempt_prefix.removeprefix(f"jobs/{watch.head.state.id}/") + "/"
        return checkpoint if checkpoint and checkpoint.prefix.startswith(prefix) else None

    def _avoids_me(self, state: JobState) -> bool:
        """Another machine gets the first chance after a device error; a lone machine gets the job in the end."""
        waited = self.store.server_time_seconds() - state.queued_seconds
        return self.node != "" and self.node in state.avoid_nodes and waited < self.settings.avoid_node_seconds

    def _waited_too_long(self, head: Head) -> bool:
        """Ends a job whose `queue_seconds` passed before anybody took it."""
        state, now = head.state, self.store.server_time_seconds()
        limit = state.limits.queue_seconds
        if limit is None or now - state.queued_seconds <= limit:
            return False
        ended = transitions.timed_out_waiting(state, head.index + 1, now_seconds=now)
        self._append_claim(head, "finish", ended, "no worker took it within its queue limit")
        return True

    def _backoff_seconds(self, failures: int) -> float:
        """Full jitter: uniform in 0 to min(base * 2^failures, cap)."""
        ceiling = min(self.settings.backoff_base_seconds * 2 ** min(failures, 30), self.settings.backoff_cap_seconds)
        return self._random.uniform(0, ceiling)

    def _control(self, verb: Verb, job: str, message: str) -> JobState:
        match verb:
            case "cancel":
                return self._request_cancel(job, CancelRequest(message=message))
            case "supersede":
                return self._request_cancel(job, CancelRequest(reason="superseded", message=message))
            case "pause":
                return self.pause(job)
            case "resume":
                return self.resume(job)

    def _request_cancel(self, job: str, request: CancelRequest) -> JobState:
        now = self.store.server_time_seconds()
        return self._amend(
            job,
            lambda state, index: transitions.cancel_requested(state, index, request=request, now_seconds=now),
            request.message or request.reason,
        )

    def _amend(
        self, job: str, transition: Callable[[JobState, int], JobState], note: str, kind: EntryKind = "amend"
    ) -> JobState:
        """Append a change at whatever index is free; nothing is appended when it would change nothing."""
        head = self.log.head(job_id := self.views.find(job))
        nonce = self.log.nonce()
        while head:
            after = transition(head.state, head.index + 1)
            if after == head.state or self._append_amendment(head, Draft(kind, note, nonce), after):
                self.hints.settle_quietly(after, stale=keys.marker(head.state))
                return after
            head = self.log.latest(head)
        raise JobNotFound(f"{job_id}: there is no such job", hint="gankiln status lists them")

    def _append_amendment(self, head: Head, draft: Draft, after: JobState) -> bool:
        if head.state.terminal:
            # Nobody reads the hints of ended jobs, so a crash behind the append would lose the job. This one announces
            # the entry; watchers leave it alone until the entry is there, and then put right whatever they find.
            self.store.put(keys.watch_me(head.state.id, head.index + 1), b"")
        return self.log.append(head.index + 1, draft, after) is not None

    def _do_chore(self) -> bool:
        """Now and then a look into the inbox makes room for other housekeeping."""
        match self._polls % CHORE_EVERY:
            case 0:
                self.sweep()
            case 20:
                self.repair()
            case _:
                return False
        return True
