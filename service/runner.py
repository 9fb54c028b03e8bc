"""One lease from claim to end: fetch, resume, supervise, upload, commit. Read worker.py first.

    bring inputs -> restore the frozen base -> run the child, beating and uploading beside it -> end the lease once

However it goes, the lease is ended with exactly one of succeed, fail, release and stop, or it was lost to another
worker and nothing of this attempt counts.
"""

import fcntl
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

from jobs.errors import GankilnError
from jobs.events import Event
from jobs.spec import Job, load
from service import settings as environment
from service.heart import Heart
from service.inputs import Brought, Inputs
from service.queue import REASONS, Failure, Fenced, JobState, Lease, OutputFile, Progress, reason_of_exit_code
from service.queue.model import Checkpoint
from service.restore import restore
from service.settings import Settings
from service.spool import Spool
from service.store import FullStore, Store, StoreRefused, Unavailable
from service.supervisor import TICK_SECONDS, Attempt, Ending, Limits, Output, Stop, StopSwitch
from service.telemetry.observer import JobInfo, Observer, Outcome
from service.uploads import Stored, Uploads

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 15.0
PATIENT_ERRORS = (Unavailable, FullStore, StoreRefused)
"""Errors of the queue's own store that somebody puts right, sooner or later: a job's work is worth waiting for that."""
CHECKPOINT_SHARE, UPLOAD_SHARE = 0.6, 0.85
"""Of the time that a request to stop leaves: until then the child may save itself, and until then uploads are waited
for; the rest is for telling the end."""


@dataclass(frozen=True)
class JobFiles:
    """Where one attempt lives on the local disk."""

    folder: Path

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def spec(self) -> Path:
        return self.folder / "spec.yaml"

    @property
    def inputs(self) -> Path:
        return self.folder / "inputs"

    @property
    def output(self) -> Path:
        return self.folder / "output.log"


CommandLine = Callable[[JobFiles, Brought, Job], Sequence[str]]
"""The command that runs a job in `JobFiles.run_dir`; tests give their own."""


@dataclass(frozen=True)
class Tools:
    """What every run of a worker shares."""

    store: Store
    settings: Settings
    observer: Observer
    inputs: Inputs
    command_line: CommandLine
    redact: Callable[[str], str]
    alive: Callable[[], None]
    """Called often while all is well."""
    evaluated: Callable[[JobState, Path, Event], object] = lambda _state, _run_dir, _event: None
    """Called with every evaluation that a run says; must not fail or take long."""


@dataclass(frozen=True)
class Result:
    """How a lease ended; `state` is what the queue made of it, None when this worker could not tell it."""

    ending: Ending
    state: JobState | None


class _Stopped(Exception):
    """The attempt is to end while no child is running, or its time is up."""


class _TooSlow(Exception):
    """Inputs were not there within the start-up limit."""


class Runner:
    """Runs one lease. `stop` may be called from any thread."""

    def __init__(self, tools: Tools, lease: Lease) -> None:
        self._tools = tools
        self._lease = lease
        self._switch = StopSwitch()
        self._give_up_seconds = float("inf")
        """By time.monotonic(): past it, the end of the lease is waited for no longer."""
        self._upload_until_seconds = float("inf")
        self._progress = Progress()
        self._files = JobFiles(tools.settings.runs_dir / f"{lease.id}-{lease.epoch:08d}")
        self._output = Output(self._files.output, tools.settings.log_bytes, tools.redact)
        self._uploads = Uploads(
            tools.store,
            job_id=lease.id,
            attempt_prefix=lease.attempt_prefix,
            run_dir=self._files.run_dir,
            log_file=self._files.output,
            spool=Spool(self._files.folder / "spool", tools.settings.spool_bytes),
            observer=tools.observer,
            interval_seconds=tools.settings.log_seconds,
        )
        self._heart = Heart(
            lease,
            self._switch,
            tools.observer,
            progress=self._tell,
            on_beat=lambda progress: self._uploads.told(progress.checkpoint),
            heartbeat_seconds=tools.settings.heartbeat_seconds,
            grace_seconds=tools.settings.grace_seconds,
            orphan_seconds=tools.settings.orphan_seconds,
        )

    def stop(self, reason: Stop, within_seconds: float) -> None:
        """End the attempt, whatever it does, within this time."""
        now = time.monotonic()
        self._give_up_seconds = min(self._give_up_seconds, now + within_seconds)
        self._upload_until_seconds = min(self._upload_until_seconds, now + within_seconds * UPLOAD_SHARE)
        self._switch.ask(reason, within_seconds * CHECKPOINT_SHARE)

    def run(self) -> Result:
        """From claim to end. Never raises for what a job, a store or a disk does."""
        self._heart.start()
        ending, state = Ending(), None
        try:
            with _own_folder(self._files.folder):
                ending = self._attempt()
                ending, state = self._conclude(ending)
        except Fenced as error:
            ending = replace(ending, stop="fenced", reason=None, message=error.message)
        except _Stopped:
            self._say("the end of the attempt could not be told; another worker will find out", "end_not_told")
        except Exception as error:  # a bug of ours, or a local disk that fails: it costs this attempt, not the worker
            ending = _unexpected(error, ending.seconds)
            self._say(f"the attempt failed unexpectedly: {error!r}", "attempt_broken")
            with suppress(_Stopped, GankilnError):
                state = self._tell_end(ending, ())
        finally:
            self._heart.stop(within_seconds=1.0)
            self._uploads.close()
        self._report(ending, state)
        return Result(ending, state)

    # Before and during.

    def _attempt(self) -> Ending:
        """Prepare and run; every failure of the preparation is an ending too."""
        started = time.monotonic()
        try:
            job = self._begin()
            brought = self._bring(job)
            try:
                return self._supervise(job, brought)
            finally:
                brought.release()
        except _Stopped:
            return Ending(stop=self._switch.reason, seconds=time.monotonic() - started)
        except _TooSlow:
            message = "Its inputs could not be fetched within its start-up limit."
            return Ending(reason="startup_timeout", message=message, seconds=time.monotonic() - started)
        except Fenced:
            raise
        except GankilnError as error:
            reason = reason_of_exit_code(error.exit_code)
            message = self._tools.redact(error.message)
            return Ending(reason=reason, message=message, hint=error.hint, seconds=time.monotonic() - started)

    def _begin(self) -> Job:
        spec = self._prepare(self._lease.spec)
        self._files.spec.write_bytes(spec)
        job = load(spec, "spec.yaml").job
        state = self._lease.state
        assert job.training.checkpoint_images, "a resolved spec"
        info = JobInfo(
            job_id=self._lease.id,
            job_name=job.name,
            model=job.recipe.kind,
            dataset=job.recipe.data.kind,
            resolution=str(job.recipe.data.resolution),
        )
        self._tools.observer.job_started(
            info,
            attempt=state.attempts,
            waited_seconds=state.claimed_seconds - state.queued_seconds,
            resumes_at_images=state.resume_from.images if state.resume_from else None,
            checkpoint_images=job.training.checkpoint_images,
        )
        return job

    def _bring(self, job: Job) -> Brought:
        """Inputs and the base, on the local disk."""
        self._tools.observer.state("downloading")
        self._progress = Progress(phase="downloading", total_images=job.training.images)
        brought = self._prepare(lambda: self._tools.inputs.bring(job, self._files.inputs))
        try:
            images, stored = self._prepare(self._restore)
        except BaseException:
            brought.release()
            raise
        self._progress = self._progress.model_copy(update={"images": images})
        self._uploads.start(stored)
        return brought

    def _restore(self) -> tuple[int, dict[str, Stored]]:
        shutil.rmtree(self._files.run_dir, ignore_errors=True)
        base = self._lease.resume_from
        return restore(self._tools.store, self._lease.id, base, self._files.run_dir, epoch=self._lease.epoch)

    def _supervise(self, job: Job, brought: Brought) -> Ending:
        self._tools.observer.state("training")
        limits, before = self._lease.state.limits, self._lease.state.run_seconds
        attempt = Attempt(
            self._tools.command_line(self._files, brought, job),
            self._files.run_dir,
            environment=environment.child_environment(),
            limits=Limits(
                startup_seconds=max(1.0, limits.startup_seconds - self._lease.seconds),
                stall_seconds=limits.stall_seconds,
                evaluation_seconds=self._tools.settings.evaluation_seconds,
                attempt_seconds=limits.attempt_seconds,
                total_seconds=None if limits.total_seconds is None else max(0.0, limits.total_seconds - before),
            ),
            output=self._output,
            stop=self._switch,
            waits=lambda: brought.waits,
        )
        return attempt.run(self._see, self._tools.alive)

    def _see(self, event: Event) -> None:
        """One event of the run: metrics, the next heartbeat, and a checkpoint to upload."""
        self._tools.observer.event(event)
        with suppress(Exception):  # a strange event changes nothing
            self._progress = _after(self._progress, event)
        if event.get("event") == "evaluation":
            self._tools.evaluated(self._lease.state, self._files.run_dir, event)
        if event.get("event") == "checkpoint" and isinstance(event.get("images"), int):
            self._uploads.checkpoint_saved(event["images"])

    def _tell(self) -> Progress:
        last = self._output.tail[-1:]
        line = last[0][:500] if last else ""
        return self._progress.model_copy(update={"checkpoint": self._uploads.published, "last_line": line})

    # After.

    def _conclude(self, ending: Ending) -> tuple[Ending, JobState | None]:
        """Upload what counts, stop beating, end the lease. A finished job may become one that was given back."""
        if ending.stop == "fenced":
            return ending, None
        self._tools.observer.state("uploading")
        self._progress = self._progress.model_copy(update={"phase": "uploading"})
        self._heart.beat_soon()
        files: tuple[OutputFile, ...] = ()
        try:
            files = self._upload_last(ending)
        except _Stopped:  # finished, but there was no time to bring it home
            ending = replace(ending, stop=self._switch.reason or "drain")
        except Fenced:
            raise
        except GankilnError as error:
            reason = reason_of_exit_code(error.exit_code)
            ending = replace(ending, reason=reason, message=self._tools.redact(error.message), hint=error.hint)
        return ending, self._tell_end(ending, files)

    def _upload_last(self, ending: Ending) -> tuple[OutputFile, ...]:
        """The whole run directory where the job ends here; the last checkpoint and the log where it goes on."""
        if ending.finished:
            return self._wait_for(self._uploads.finish, self._no_more_uploads)
        grace_seconds = self._tools.settings.grace_seconds
        self._uploads.flush(min(self._upload_until_seconds, time.monotonic() + grace_seconds))
        if self._is_last(ending):
            with suppress(GankilnError, _Stopped):  # the end counts more than what it leaves
                return self._wait_for(self._uploads.finish, self._no_more_uploads)
        return ()

    def _tell_end(self, ending: Ending, files: tuple[OutputFile, ...]) -> JobState:
        """End the lease, once the heart stands still: the lease has one user at a time."""
        if not self._heart.stop(max(1.0, self._give_up_seconds - time.monotonic())):
            raise _Stopped
        return self._wait_for(lambda: self._end(ending, files, self._uploads.published), self._time_is_up)

    def _is_last(self, ending: Ending) -> bool:
        """Whether the job ends with this attempt."""
        state = self._lease.state
        if ending.stop:
            return ending.stop == "cancelled"
        assert ending.reason
        return REASONS[ending.reason].retry == "never" or state.failures + 1 >= state.budgets.max_failures

    def _end(self, ending: Ending, files: tuple[OutputFile, ...], checkpoint: Checkpoint | None) -> JobState:
        match ending.stop:
            case None if ending.reason is None:
                return self._lease.succeed(files)
            case None:
                return self._lease.fail(self._failure(ending), checkpoint=checkpoint, files=files)
            case "cancelled":
                return self._lease.stop(checkpoint=checkpoint, files=files)
            case "fenced":
                raise Fenced(f"{self._lease.id}: another worker has it")
            case interruption:
                return self._lease.release(interruption, checkpoint=checkpoint)

    def _failure(self, ending: Ending) -> Failure:
        assert ending.reason
        return Failure.of(
            ending.reason,
            ending.message,
            hint=ending.hint,
            exit_code=ending.exit_code,
            node=self._tools.settings.node_name,
            log_lines=ending.log_tail,
        )

    def _prepare(self, action: Callable[[], T]) -> T:
        """What comes before the child: given up as soon as somebody asks to stop, or when it takes too long."""

        def give_up() -> Exception | None:
            if self._switch.asked:
                return _Stopped()
            return _TooSlow() if self._lease.seconds > self._lease.state.limits.startup_seconds else None

        return self._wait_for(action, give_up)

    def _no_more_uploads(self) -> Exception | None:
        return self._given_up(self._upload_until_seconds)

    def _time_is_up(self) -> Exception | None:
        return self._given_up(self._give_up_seconds)

    def _given_up(self, until_seconds: float) -> Exception | None:
        """What comes after the child ends early only when `stop` leaves no more time, or the claim is lost."""
        if self._switch.reason == "fenced":
            return Fenced(f"{self._lease.id}: another worker has it")
        return _Stopped() if time.monotonic() > until_seconds else None

    def _wait_for(self, action: Callable[[], T], give_up: Callable[[], Exception | None]) -> T:
        """Does `action`, again and again until the store answers, in a thread: one request may take minutes.

        Raises what `give_up` returns, and leaves the thread to itself; what it still does is under this attempt's own
        prefix, or an append that counts at most once.
        """
        done: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                done.append(_persist(action, give_up))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work, name="store-work", daemon=True)
        thread.start()
        thread.join(TICK_SECONDS)
        while thread.is_alive():
            if error := give_up():
                raise error
            self._tools.alive()
            thread.join(TICK_SECONDS)
        if failed:
            raise failed[0]
        return done[0]

    def _report(self, ending: Ending, state: JobState | None) -> None:
        """The canonical line of the attempt."""
        job = self._lease.state
        self._tools.observer.attempt_ended(
            _outcome(ending),
            ending.code,
            _fault(ending),
            job_id=job.id,
            job_name=job.name,
            attempt=job.attempts,
            epoch=self._lease.epoch,
            seconds=round(ending.seconds, 1),
            exit_code=ending.exit_code,
            message=ending.message,
            status=state.status if state else "unknown",
        )
        if state and state.terminal:
            self._tools.observer.job_ended(state.status, state.run_seconds)
        self._tools.observer.job_forgotten()

    def _say(self, text: str, action: str) -> None:
        with suppress(Exception):
            self._tools.observer.log.warning(text, action=action, job_id=self._lease.id)


def _persist(action: Callable[[], T], give_up: Callable[[], Exception | None]) -> T:
    """`action`, again until the store answers. Raises what `give_up` returns."""
    pause = 0.5
    while True:
        try:
            return action()
        except PATIENT_ERRORS:
            if error := give_up():
                raise error from None
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _after(progress: Progress, event: Event) -> Progress:
    """What the next heartbeat tells, after this event."""
    match event.get("event"):
        case "phase":
            return progress.model_copy(update={"phase": str(event["phase"])[:40]})
        case "start":
            return progress.model_copy(update={"images": int(event["images"])})
        case "progress":
            return Progress(
                phase="training",
                images=event["images"],
                total_images=event.get("target_images", progress.total_images),
                images_per_second=event.get("images_per_second"),
                memory_bytes=event.get("memory_bytes"),
            )
        case _:
            return progress


def _outcome(ending: Ending) -> Outcome:
    match ending.stop:
        case None:
            return "failed" if ending.reason else "finished"
        case "cancelled" | "fenced":
            return ending.stop
        case _:
            return "interrupted"


def _fault(ending: Ending) -> str:
    """Whose fault a failure is: the job's own, the machine's, or gankiln's or its surroundings'."""
    if ending.stop or ending.reason is None:
        return "none"
    return {"never": "job", "elsewhere": "machine", "anywhere": "service"}[REASONS[ending.reason].retry]


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """A folder for one attempt, locked while it is in use and removed afterwards."""
    lock = _locked(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _locked(folder: Path) -> IO[str]:
    """The lock of a folder that is there: a worker that starts may take a folder without a lock for abandoned."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            lock = (folder / ".lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / ".lock").exists():
                return lock
            lock.close()


def _unexpected(error: Exception, seconds: float) -> Ending:
    if isinstance(error, OSError):
        hint = "free space below GANKILN_HOME, or replace the disk"
        return Ending(reason="store_error", message=f"the local disk: {error}", hint=hint, seconds=seconds)
    return Ending(reason="internal_error", message=f"the worker: {type(error).__name__}: {error}", seconds=seconds)


def remove_abandoned(runs_dir: Path) -> int:
    """Remove what attempts of killed workers left on the local disk; how many there were."""
    removed = 0
    for folder in runs_dir.glob("*"):
        with suppress(OSError), (folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed
