"""What a worker holds while a job is its own: it beats, and ends the attempt exactly once, or learns that it lost."""

import hashlib
from collections.abc import Callable

from jobs.errors import DataError
from service.queue import keys, transitions
from service.queue.clock import Clock
from service.queue.errors import Fenced
from service.queue.hints import Hints
from service.queue.log import Draft, Head, JobLog
from service.queue.model import (
    Checkpoint,
    EntryKind,
    Failure,
    Heartbeat,
    JobState,
    OutputFile,
    Progress,
)
from service.queue.reasons import Interruption
from service.store import Store

Transition = Callable[[JobState, int], JobState]


class Lease:
    """One attempt at a job. Used by one thread at a time, the supervisor's.

    `beat` every `heartbeat_seconds`; then end it with one of `succeed`, `fail`, `release`, `stop`. Every ending may be
    called again after a StoreError: it takes effect once. After `Fenced` nothing of this attempt counts any more.
    """

    def __init__(
        self, store: Store, log: JobLog, hints: Hints, head: Head, *, clock: Clock, backoff: Callable[[int], float]
    ) -> None:
        self._store = store
        self._log = log
        self._hints = hints
        self._head = head
        self._clock = clock
        self._backoff = backoff
        self._nonce = log.nonce()
        self._sequence = 0
        self._progress = Progress()
        self._started_seconds = clock.monotonic()
        self._contact_seconds = self._started_seconds
        self._ended: JobState | None = None
        self.is_take_over = head.entry.kind == "take_over"
        """Whether it was taken from a lost worker."""
        self.epoch = head.state.epoch
        """The fencing token: the log index of the claim."""

    @property
    def id(self) -> str:
        return self._head.state.id

    @property
    def state(self) -> JobState:
        """The job as last read: `state.cancel` and `state.pause` are what somebody asks of this attempt.

        After an end it is the state that the end made, also when only a later read showed that the end stands.
        """
        return self._ended or self._head.state

    @property
    def attempt_prefix(self) -> str:
        """Everything this attempt uploads goes below: jobs/<id>/attempts/<epoch>."""
        return self.state.attempt_prefix

    @property
    def resume_from(self) -> Checkpoint | None:
        """The checkpoint to start from, frozen by the claim."""
        return self.state.resume_from

    @property
    def seconds(self) -> float:
        """How long this attempt has run."""
        return self._clock.monotonic() - self._started_seconds

    @property
    def silent_seconds(self) -> float:
        """Since the store was last heard: an attempt cut off for long is probably no longer the owner."""
        return self._clock.monotonic() - self._contact_seconds

    def spec(self) -> bytes:
        """The spec as it was submitted. Raises DataError when somebody changed it since."""
        data = self._store.get(keys.spec(self.id))
        if hashlib.sha256(data).hexdigest() != self.state.spec_sha256:
            raise DataError(f"{keys.spec(self.id)}: was changed after it was submitted", hint="submit it again")
        return data

    def beat(self, progress: Progress) -> JobState:
        """Tell that the attempt lives, and hear what was asked of it since: 1 put and 1 get.

        Returns the job's state; a cancel or pause in it is to be obeyed. Raises Fenced when the job is no longer ours,
        Unavailable when the store did not answer: then keep training and beat again.
        """
        self._progress = progress
        self._sequence += 1
        beat = Heartbeat(
            sequence=self._sequence,
            worker=self.state.worker,
            time_seconds=round(self._store.server_time_seconds(), 3),
            seconds=round(self.seconds, 3),
            progress=progress,
        )
        self._store.put(keys.heartbeat(self.id, self.epoch), beat.model_dump_json(exclude_defaults=True).encode())
        self._catch_up()
        self._contact_seconds = self._clock.monotonic()
        return self.state

    def check(self) -> JobState:
        """Read the log on without beating: after an outage, before anything is published. Raises Fenced."""
        self._catch_up()
        self._contact_seconds = self._clock.monotonic()
        return self.state

    def succeed(self, files: tuple[OutputFile, ...]) -> JobState:
        """Commit the result: the files, by path below `attempt_prefix`, all uploaded already."""

        def transition(state: JobState, index: int) -> JobState:
            return transitions.succeeded(state, index, files=files, seconds=self.seconds, now_seconds=self._now())

        return self._end("finish", transition, f"succeeded with {len(files)} files")

    def fail(
        self, failure: Failure, *, checkpoint: Checkpoint | None = None, files: tuple[OutputFile, ...] = ()
    ) -> JobState:
        """The attempt ended badly: the reason and the budgets decide whether the job is tried again.

        `checkpoint` is the last published one (the one of the last beat when left out); `files` are what is worth
        keeping if this was the end. Returns the new state: queued, failed, dead, or what a cancel or pause made of it.
        """
        delay_seconds = self._backoff(self.state.failures)

        def transition(state: JobState, index: int) -> JobState:
            return transitions.attempt_failed(
                state,
                index,
                failure=failure,
                checkpoint=checkpoint or self._progress.checkpoint,
                files=files,
                seconds=self.seconds,
                now_seconds=self._now(),
                delay_seconds=delay_seconds,
            )

        return self._end("fail", transition, f"{failure.reason}: {failure.message}")

    def release(self, interruption: Interruption, *, checkpoint: Checkpoint | None = None) -> JobState:
        """Give a healthy attempt back; the job keeps its place in the queue."""

        def transition(state: JobState, index: int) -> JobState:
            return transitions.released(
                state,
                index,
                interruption=interruption,
                checkpoint=checkpoint or self._progress.checkpoint,
                seconds=self.seconds,
                now_seconds=self._now(),
            )

        return self._end("release", transition, f"given back: {interruption}", interruption)

    def stop(self, *, checkpoint: Checkpoint | None = None, files: tuple[OutputFile, ...] = ()) -> JobState:
        """The attempt was stopped because `state.cancel` asked for it."""

        def transition(state: JobState, index: int) -> JobState:
            return transitions.stopped(
                state,
                index,
                checkpoint=checkpoint or self._progress.checkpoint,
                files=files,
                seconds=self.seconds,
                now_seconds=self._now(),
            )

        return self._end("finish", transition, "cancelled")

    def _now(self) -> float:
        return self._store.server_time_seconds()

    def _end(
        self, kind: EntryKind, transition: Transition, note: str, interruption: Interruption | None = None
    ) -> JobState:
        """Append the end at the first free index behind amendments. Only the owner of the last claim gets one."""
        draft = Draft(kind, note, self._nonce, interruption)
        while self._ended is None:
            self._catch_up()
            if self._ended is None:
                index = self._head.index + 1
                head = self._log.append(index, draft, transition(self._head.state, index))
                self._ended = head.state if head else None
        self._hints.settle_quietly(self._ended, stale=keys.marker(self._head.state))
        return self._ended

    def _catch_up(self) -> None:
        """Apply what others appended. Raises Fenced when that ended this attempt."""
        while following := self._log.next(self._head):
            if self._is_mine(following):
                self._ended = following.state  # our own end: its answer was lost earlier
                return
            if following.state.epoch != self.epoch or following.state.status != "claimed":
                raise Fenced(
                    f"{self.id}: the claim at log index {self.epoch} was superseded at {following.index} by "
                    f"{following.entry.writer} ({following.entry.kind}: {following.entry.note})",
                    hint="this attempt's files stay under its own prefix and do no harm",
                )
            self._head = following

    def _is_mine(self, head: Head) -> bool:
        """Whether this lease wrote the entry: each lease signs with its own nonce."""
        return head.entry.nonce == self._nonce
