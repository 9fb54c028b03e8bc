"""The worker: claim, run, store, repeat. Read this first, then runner.py (one job) and queue/queue.py (the protocol).

A worker runs one job at a time in a child process, so nothing that a job does ends the worker. SIGTERM drains it: it
claims nothing more, gives its job a last checkpoint, hands it back with its place in the queue, and exits with 0.
"""

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from jobs.errors import DeviceError, GankilnError
from jobs.spec import Job
from service import settings as environment
from service.cache import Cache, trim
from service.inputs import Brought, Inputs
from service.preemption import Cloud, PreemptionWatch
from service.pruning import Pruning
from service.queue import REASONS, JobState, Lease, Queue
from service.redact import Redactor
from service.runner import CommandLine, JobFiles, Result, Runner, Tools, remove_abandoned
from service.settings import Settings
from service.store import DirectoryStore, Store, open_store
from service.studies import SOURCE as STUDY_SOURCE
from service.studies import Studies
from service.supervisor import Stop, job_command
from service.telemetry import logs
from service.telemetry.gpu import NvidiaLibrary
from service.telemetry.observer import Observer
from service.telemetry.server import TelemetryServer
from service.validate import validator

ALIVE_SECONDS = 600.0
"""A worker that showed no sign of life for so long is not healthy: its platform should restart it."""
LONGEST_BACKOFF_SECONDS = 60.0
TEND_EVERY = 8
"""Polls between two looks at open studies while nothing calls for one."""
FRUITLESS_LOOKS = 3
"""After so many looks that gave nothing, what waits is not for this machine."""


class Worker:
    """Claims and runs jobs of one store until it is drained, or idle for long enough."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        observer: Observer,
        *,
        command_line: CommandLine | None = None,
        gpus: int | None = None,
    ) -> None:
        self.settings = settings
        self.observer = observer
        self.store = store
        store.observer = observer.request
        self._gpus = len(NvidiaLibrary().gpus()) if gpus is None else gpus
        self._queue = self._open_queue()
        self._studies = Studies(self._queue, settings.budgets, self._complain_of_study)
        self._study_problems: dict[str, str] = {}
        self._tending_is_due = True
        self._polls_until_tending = 0
        self._validate = validator(settings.budgets)
        cache = Cache(settings.inputs_dir, limit_bytes=settings.cache_bytes, free_bytes=settings.free_bytes)
        self._tools = Tools(
            store=store,
            settings=settings,
            observer=observer,
            inputs=Inputs(
                store,
                cache,
                settings.data_roots,
                open_store=partial(open_store, observer=observer.request),
                stream_bytes=settings.stream_bytes,
                say=self._complain_of_lending,
            ),
            command_line=command_line or partial(gankiln_run, settings),
            redact=Redactor(environment.secret_values()),
            alive=self._show_life,
            evaluated=self._pruning().evaluated,
        )
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self._draining = threading.Event()
        self._failed_fast: list[str] = []
        """Jobs that failed fast here since the last attempt that did not, each once: one bad job proves nothing."""
        self._fruitless_looks = 0
        self._alive_seconds = time.monotonic()
        self._problem: str | None = "starting"

    def run(self, *, exit_when_idle_seconds: float | None = None) -> None:
        """Works until it is drained. With `exit_when_idle_seconds`, also until nothing was to be done for so long;
        with 0, until no job of the queue is unfinished.

        Raises DeviceError when it is to exit when idle but its jobs fail fast one after another.
        """
        self.settings.runs_dir.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.settings.runs_dir)
        with suppress(GankilnError):
            self._queue.make_folders()
        idle_since = time.monotonic()
        failures = 0
        while not self._draining.is_set():
            self._show_life()
            try:
                lease = self._look()
                failures = 0
            except GankilnError as error:
                failures += 1
                self._complain(error)
                self._sleep(min(2.0**failures, LONGEST_BACKOFF_SECONDS) * random.uniform(0.5, 1.0))  # noqa: S311
                continue
            self._fruitless_looks = 0 if lease else self._fruitless_looks + 1
            if lease:
                self._run(lease)
                idle_since = time.monotonic()
                self._quarantine_if_needed(leave=exit_when_idle_seconds is not None)
            elif exit_when_idle_seconds is not None and self._may_leave(exit_when_idle_seconds, idle_since):
                self.observer.log.info("nothing is left to do", action="exit_idle")
                return
            else:
                self._sleep(self._queue.next_poll_seconds())
        self.observer.log.info("drained", action="exit_drained")

    def drain(self, reason: Stop = "drain", within_seconds: float | None = None) -> None:
        """Stop claiming; give back the job that runs. From any thread, once or more often."""
        within = self.settings.drain_seconds if within_seconds is None else within_seconds
        with self._lock:
            self._draining.set()
            if self._runner:
                self._runner.stop(reason, within)
        self.observer.state("draining")

    def unhealthy(self) -> str | None:
        """For /healthz: whether the worker's own loop stands still. A job that hangs is no matter of health."""
        quiet_seconds = time.monotonic() - self._alive_seconds
        return f"no sign of life for {quiet_seconds:.0f} s" if quiet_seconds > ALIVE_SECONDS else None

    def unready(self) -> str | None:
        """For /readyz: why it cannot take a job now."""
        return "draining" if self._draining.is_set() else self._problem

    def _open_queue(self) -> Queue:
        return Queue(
            self.store,
            worker_id=f"{self.settings.worker_name}-{secrets.token_hex(4)}",
            node=self.settings.node_name,
            settings=self.settings.queue_settings(polls_are_free=isinstance(self.store, DirectoryStore)),
        )

    def _pruning(self) -> Pruning:
        queue = self._open_queue()
        return Pruning(queue, Studies(queue, self.settings.budgets), self.observer.log)

    def _look(self) -> Lease | None:
        """One look at the queue: ingest, tend studies, take over, claim."""
        self.observer.state("idle")
        self._tend_studies()
        try:
            lease = self._queue.poll(self._validate, self._accepts)
        finally:
            self._tell_ingested()
        if lease is None and self._tending_is_due and self._tend_studies():
            lease = self._queue.claim(self._accepts)
        self._problem = None
        self.observer.skew(self.store.clock_skew_seconds())
        if lease:
            self.observer.claim("won", taken_over=lease.is_take_over)
        return lease

    def _tell_ingested(self) -> None:
        report = self._queue.last_ingest
        for source, error in report.rejected.items():
            self.observer.rejected(source, error)
        if report.created:
            self.observer.log.info(f"{len(report.created)} new jobs", action="ingested", job_ids=report.created)
        if report.studies:
            self._tending_is_due = True
            self.observer.log.info(f"{len(report.studies)} new studies", action="ingested", study_ids=report.studies)
        report.rejected, report.created, report.studies = {}, [], []

    def _tend_studies(self) -> bool:
        """Whether studies have new jobs now. Due after a job or a new study, and now and then: whoever ran a job of a
        study tends it, so the others look only because that worker may be lost.
        """
        self._polls_until_tending -= 1
        if self._polls_until_tending > 0 and not self._tending_is_due:
            return False
        self._tending_is_due, self._polls_until_tending = False, TEND_EVERY
        done = self._studies.tend()
        for study_id in done.closed:
            self.observer.log.info("the study has ended", action="study_closed", study_id=study_id)
        return bool(done.created)

    def _complain_of_study(self, study_id: str, why: str) -> None:
        if self._study_problems.get(study_id) != why:
            self._study_problems[study_id] = why
            self.observer.log.warning(why, action="study_failed", study_id=study_id)

    def _complain_of_lending(self, why: str) -> None:
        self.observer.log.warning(why, action="shard_delayed")

    def _accepts(self, state: JobState) -> bool:
        return state.gpus <= self._gpus

    def _run(self, lease: Lease) -> None:
        trim(self.settings.cache_dir, self.settings.cache_bytes)
        runner = Runner(self._tools, lease)
        with self._lock:
            self._runner = runner
            if self._draining.is_set():
                runner.stop("drain", self.settings.drain_seconds)
        try:
            result = runner.run()
        finally:
            with self._lock:
                self._runner = None
        self._count_fast_failures(lease.id, result)
        if lease.state.source.startswith(STUDY_SOURCE):
            with suppress(GankilnError):  # whoever tends next sees it anyway
                self._studies.reopen(lease.state.source)
            self._tending_is_due = True

    def _count_fast_failures(self, job_id: str, result: Result) -> None:
        """Only failures that may be this machine's own count: a bad spec fails fast everywhere."""
        ending = result.ending
        if ending.stop or (ending.reason and REASONS[ending.reason].retry == "never"):
            return
        if ending.finished or ending.seconds >= self.settings.quarantine_fast_seconds:
            self._failed_fast = []
        elif job_id not in self._failed_fast:
            self._failed_fast.append(job_id)

    def _quarantine_if_needed(self, *, leave: bool) -> None:
        """After several jobs that failed fast this machine is suspected: it must not eat the whole queue."""
        if len(self._failed_fast) < self.settings.quarantine_failures:
            return
        message = (
            f"{len(self._failed_fast)} jobs in a row failed here within {self.settings.quarantine_fast_seconds:g} s"
        )
        self.observer.state("quarantined")
        self.observer.log.error(message, action="quarantined", seconds=self.settings.quarantine_seconds)
        if leave:
            raise DeviceError(message, hint="gankiln doctor on this machine; its jobs wait for another worker")
        self._problem = message
        self._sleep(self.settings.quarantine_seconds, show_life=True)
        del self._failed_fast[0]  # one more failure, and it is quarantined again
        self._problem = None

    def _may_leave(self, idle_seconds: float, idle_since: float) -> bool:
        """A worker that watches a suspect stays; and with 0 it stays while any job is unfinished."""
        if self._queue.suspects or time.monotonic() - idle_since < idle_seconds:
            return False
        try:
            depth = self._queue.depth()
        except GankilnError:
            return False
        if idle_seconds:
            return True
        if depth.inbox or depth.delayed or depth.running:
            return False
        if depth.waiting and self._fruitless_looks >= FRUITLESS_LOOKS:
            self.observer.log.warning(f"{depth.waiting} jobs wait for another machine", action="not_for_me")
            return True
        return not depth.waiting and not self._study_goes_on()

    def _study_goes_on(self) -> bool:
        """A last look before leaving: whether a study makes new jobs."""
        self._tending_is_due = True
        with suppress(GankilnError):
            return self._tend_studies()
        return True

    def _complain(self, error: GankilnError) -> None:
        self._problem = error.message
        self.observer.claim("error")
        self.observer.log.warning(str(error), action="store_error", error=type(error).__name__)

    def _sleep(self, seconds: float, *, show_life: bool = False) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._draining.wait(min(left, 30.0)):
            if show_life:
                self._show_life()

    def _show_life(self) -> None:
        self._alive_seconds = time.monotonic()


def gankiln_run(settings: Settings, files: JobFiles, brought: Brought, job: Job) -> Sequence[str]:
    """`gankiln run` for a job from the queue: it may read only what was brought and the data roots."""
    return job_command(
        files.spec,
        files.run_dir,
        relative_to=brought.folder,
        data_roots=brought.roots,
        cache_dir=settings.cache_dir,
        weights_dir=settings.weights,
    )


def start(
    store: Store,
    settings: Settings,
    *,
    command_line: CommandLine | None = None,
    on_start: Callable[[Worker, int | None], None] = lambda _worker, _port: None,
) -> Worker:
    """A worker with logs and its metrics port; `on_start` is told the port, None when it could not be opened."""
    redact = Redactor(environment.secret_values())
    log = logs.configure(format=settings.log_format, level=settings.log_level, redact=redact)
    gpus = NvidiaLibrary()
    observer = Observer(log, gpus=gpus)
    observer.built(_version("gankiln"), _version("torch"))
    worker = Worker(store, settings, observer, command_line=command_line, gpus=len(gpus.gpus()))
    server = open_port(worker)
    on_start(worker, server.port if server else None)
    return worker


def open_port(worker: Worker) -> TelemetryServer | None:
    """/metrics, /healthz, /readyz; a port that is taken costs the metrics and not the worker."""
    settings = worker.settings
    if settings.metrics_port == 0:
        return None
    try:
        return TelemetryServer(
            worker.observer.recorder,
            settings.metrics_host,
            settings.metrics_port,
            healthy=worker.unhealthy,
            ready=worker.unready,
            before_metrics=worker.observer.read_gpus,
        )
    except OSError as error:
        worker.observer.log.warning(
            f"no metrics: {settings.metrics_host}:{settings.metrics_port}: {error.strerror}",
            action="telemetry_failed",
            hint="another worker may use the port: set GANKILN_METRICS_PORT",
        )
        return None


@contextmanager
def preemption(cloud: Cloud | Literal["off"], worker: Worker) -> Iterator[None]:
    """While inside, a notice that the machine is about to be taken away drains the worker in the time that is left."""
    if cloud == "off":
        yield
        return
    watch = PreemptionWatch(cloud, lambda seconds: worker.drain("preempted", seconds))
    try:
        yield
    finally:
        watch.close()


def _version(package: str) -> str:
    """Without importing it: torch takes seconds and a gigabyte."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
