"""What a worker and its jobs do, told to Prometheus and to the log. A failing observer never stops a job."""

import functools
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec

from jobs.events import Event
from service.telemetry import catalogue as c
from service.telemetry.gpu import NvidiaLibrary
from service.telemetry.logs import Log
from service.telemetry.recorder import Recorder

P = ParamSpec("P")

WorkerState = Literal[
    "idle", "ingesting", "downloading", "training", "evaluating", "uploading", "draining", "quarantined"
]
Outcome = Literal["finished", "failed", "interrupted", "cancelled", "fenced"]

HIGHER_IS_BETTER = frozenset({"precision", "recall", "density", "coverage", "modes"})
LEVELS = ("healthy", "warning", "failure")
_NAMED_STATISTICS = {"gradient": c.TRAIN_GRADIENT, "logit": c.TRAIN_LOGIT}
"""A statistic `gradient.generator` is the gradient norm of the generator; see the recipes."""
_PHASES = {"training": "step", "waiting": "data"}
"""What progress calls otherwise than the metric."""
_INTERRUPTION = {"drain": "drain", "preempted": "spot", "stalled": "stall", "store_outage": "store"}


@dataclass(frozen=True)
class JobInfo:
    """What the one series `gankiln_job_info` says of the job that runs."""

    job_id: str
    job_name: str
    model: str
    dataset: str
    resolution: str


def harmless(method: Callable[P, None]) -> Callable[P, None]:
    """Watching never breaks the watched: what goes wrong in `method` is logged, once a method, and forgotten."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:
            observer = args[0]
            assert isinstance(observer, Observer)
            observer.complain(method.__name__, error)

    return guarded


class Observer:
    """The worker tells it what happens. No method raises, whatever it is given."""

    def __init__(self, log: Log, *, gpus: NvidiaLibrary | None = None) -> None:
        self.log = log
        self.recorder = Recorder((*c.WORKER_METRICS, *c.TRAINING_METRICS))
        self._gpus = gpus or NvidiaLibrary()
        self._complained: set[str] = set()
        self._evaluating_since = 0.0
        self._verdicts: dict[str, str] = {}

    def complain(self, where: str, error: Exception) -> None:
        if where in self._complained:
            return
        self._complained.add(where)
        with suppress(Exception):  # there is nobody left to tell
            self.log.warning(f"telemetry failed in {where}", action="telemetry_failed", error=repr(error))

    @harmless
    def built(self, version: str, torch_version: str) -> None:
        self.recorder.set(
            c.BUILD_INFO, 1, version, torch_version, self._gpus.cuda_version(), self._gpus.driver_version()
        )

    @harmless
    def state(self, state: WorkerState) -> None:
        self.recorder.switch(c.WORKER_STATE, state)

    @harmless
    def request(self, operation: str, code: str, seconds: float) -> None:
        """A `RequestObserver` of a store."""
        self.recorder.add(c.STORE_REQUESTS, 1, operation, code)
        self.recorder.observe(c.STORE_SECONDS, seconds, _request_class(operation))

    @harmless
    def skew(self, seconds: float) -> None:
        self.recorder.set(c.CLOCK_SKEW, seconds)

    @harmless
    def rejected(self, source: str, error: str) -> None:
        self.recorder.add(c.JOBS_REFUSED, 1, "spec_refused")
        self.log.warning(f"refused {source}", action="spec_refused", source=source, error=error)

    @harmless
    def claim(self, result: Literal["won", "lost", "error"], *, taken_over: bool = False) -> None:
        self.recorder.add(c.CLAIMS, 1, result)
        if taken_over:
            self.recorder.add(c.TAKEOVERS, 1)

    @harmless
    def job_started(
        self,
        info: JobInfo,
        *,
        attempt: int,
        waited_seconds: float,
        resumes_at_images: int | None,
        checkpoint_images: int,
    ) -> None:
        self._forget_job()
        self.recorder.set(c.JOB_INFO, 1, info.job_id, info.job_name, info.model, info.dataset, info.resolution)
        self.recorder.set(c.ATTEMPT_STARTED, time.time())
        self.recorder.set(c.CHECKPOINT_INTERVAL, checkpoint_images)
        if attempt == 1:  # later ones keep their first place in the queue
            self.recorder.observe(c.QUEUE_WAIT, max(0.0, waited_seconds))
        self.log.info(
            f"{info.job_name}: attempt {attempt} begins",
            action="attempt_begins",
            job_id=info.job_id,
            job_name=info.job_name,
            attempt=attempt,
            waited_seconds=round(waited_seconds, 1),
            resumes_at_images=resumes_at_images,
        )

    @harmless
    def event(self, event: Event) -> None:
        """One line of a run's events.jsonl."""
        match event.get("event"):
            case "progress":
                self._progress(event)
            case "phase":
                self._phase(str(event.get("phase")))
            case "evaluation":
                self._evaluation(event)
            case "checkpoint":
                self.recorder.observe(c.CHECKPOINT_SECONDS, float(event.get("seconds", 0)), "serialize")
                self.recorder.set(c.CHECKPOINT_SIZE, float(event.get("bytes", 0)))
            case "verdict":
                self._verdict(event)
            case "note":
                self.log.info(str(event.get("message")), action="note")
            case _:
                pass

    @harmless
    def attempt_ended(self, outcome: Outcome, code: str, fault: str, **facts: Any) -> None:
        """The canonical line of an attempt, and its metrics. `code`: why, in one word; `fault`: whose it was."""
        self.recorder.add(c.ATTEMPTS, 1, outcome, fault)
        if code in _INTERRUPTION:
            self.recorder.add(c.INTERRUPTIONS, 1, _INTERRUPTION[code])
        if outcome == "fenced":
            self.recorder.add(c.FENCED, 1)
        if code == "out_of_memory":
            self.recorder.add(c.CUDA_OOM, 1)
        if code == "diverged":
            self.recorder.add(c.TRAIN_NONFINITE, 1, "loss")
        last = {
            "images": self.recorder.value(c.TRAIN_IMAGES),
            "images_per_second": self.recorder.value(c.TRAIN_SPEED),
        }
        say = self.log.info if outcome in ("finished", "interrupted", "cancelled") else self.log.error
        name = facts.get("job_name", "the job")
        say(f"{name}: attempt ended: {code}", action="attempt_ended", outcome=outcome, code=code, **last, **facts)

    @harmless
    def job_forgotten(self) -> None:
        """The job has left this worker: its series go."""
        self._forget_job()

    @harmless
    def job_ended(self, outcome: str, run_seconds: float) -> None:
        self.recorder.observe(c.JOB_SECONDS, run_seconds, outcome)

    @harmless
    def heartbeat(self, *, stored: bool) -> None:
        if stored:
            self.recorder.set(c.HEARTBEAT_SUCCESS, time.time())
        else:
            self.recorder.add(c.HEARTBEAT_FAILURES, 1)

    @harmless
    def uploaded(self, kind: str, size_bytes: int) -> None:
        self.recorder.add(c.UPLOAD_BYTES, size_bytes, kind)

    @harmless
    def upload_failed(self, kind: str, reason: str) -> None:
        self.recorder.add(c.UPLOAD_FAILURES, 1, kind, reason)

    @harmless
    def checkpoint_stored(self, seconds: float) -> None:
        self.recorder.observe(c.CHECKPOINT_SECONDS, seconds, "upload")
        self.recorder.set(c.CHECKPOINT_SUCCESS, time.time())

    @harmless
    def checkpoint_skipped(self, stage: Literal["spool", "upload"], why: str) -> None:
        self.recorder.add(c.CHECKPOINT_FAILURES, 1, stage)
        self.log.warning(f"a checkpoint is not stored: {why}", action="checkpoint_skipped", stage=stage)

    @harmless
    def spool(self, used_bytes: int, limit_bytes: int) -> None:
        self.recorder.set(c.SPOOL_BYTES, used_bytes)
        self.recorder.set(c.SPOOL_LIMIT, limit_bytes)

    @harmless
    def read_gpus(self) -> None:
        """Call before metrics are shown."""
        for gpu in self._gpus.gpus():
            label = str(gpu.index)
            self.recorder.set(c.GPU_USED, gpu.used_ratio, label)
            self.recorder.set(c.GPU_MEMORY_USED, gpu.memory_used_bytes, label)
            self.recorder.set(c.GPU_MEMORY_TOTAL, gpu.memory_total_bytes, label)

    def _forget_job(self) -> None:
        self.recorder.forget(c.TRAINING_METRICS)
        self._verdicts = {}
        self._evaluating_since = 0.0

    def _progress(self, event: Event) -> None:
        record = self.recorder
        images = float(event["images"])
        record.add(c.TRAIN_IMAGES, max(0.0, images - (record.value(c.TRAIN_IMAGES) or 0.0)))
        record.set(c.TRAIN_STEP, float(event.get("time", time.time())))
        speed = float(event.get("images_per_second", 0.0))
        record.set(c.TRAIN_SPEED, speed)
        record.set(c.TORCH_ALLOCATED, float(event.get("memory_bytes", 0)))
        if "target_images" in event:
            record.set(c.TRAIN_TARGET, float(event["target_images"]))
        for term, loss in event.get("losses", {}).items():
            record.set(c.TRAIN_LOSS, float(loss), term)
        for name, value in event.get("statistics", {}).items():
            self._statistic(name, float(value))
        self._where_time_went(event)

    def _statistic(self, name: str, value: float) -> None:
        group, _, member = name.partition(".")
        if group in _NAMED_STATISTICS and member:
            self.recorder.set(_NAMED_STATISTICS[group], value, member)
        elif name == "augmentation.p":
            self.recorder.set(c.TRAIN_ADA, value)

    def _where_time_went(self, event: Event) -> None:
        for what, seconds in event.get("time_seconds", {}).items():
            phase = _PHASES.get(what, what)
            before = self.recorder.value(c.TRAIN_PHASE, phase) or 0.0
            self.recorder.add(c.TRAIN_PHASE, max(0.0, float(seconds) - before), phase)

    def _phase(self, phase: str) -> None:
        if phase == "evaluating":
            self._evaluating_since = time.monotonic()
        self.state("evaluating" if phase in ("evaluating", "reporting") else "training")

    def _evaluation(self, event: Event) -> None:
        if self._evaluating_since:
            self.recorder.set(c.EVAL_SECONDS, time.monotonic() - self._evaluating_since)
        for row in event.get("rows", []):
            if row.get("label"):  # a sanity row, not the trained generator
                continue
            metric, features, value = str(row["metric"]), str(row.get("features", "")), float(row["value"])
            best = self.recorder.value(c.EVAL_BEST, metric, features)
            better = max if metric in HIGHER_IS_BETTER else min
            self.recorder.set(c.EVAL_METRIC, value, metric, features)
            self.recorder.set(c.EVAL_BEST, value if best is None else better(best, value), metric, features)

    def _verdict(self, event: Event) -> None:
        detector, verdict = str(event.get("detector")), str(event.get("verdict"))
        before = self._verdicts.get(detector, LEVELS[0])
        self._verdicts[detector] = verdict
        said = list(self._verdicts.values())
        for kind in LEVELS:
            self.recorder.set(c.VERDICTS, said.count(kind), kind)
        if verdict == before:
            return
        self.recorder.set(c.VERDICT_LEVEL, LEVELS.index(verdict), detector)
        facts = {name: event.get(name) for name in ("images", "value", "threshold", "hint")}
        say = self.log.info if verdict == LEVELS[0] else self.log.warning
        say(f"{verdict}: {detector}: {event.get('message')}", action="verdict", detector=detector, **facts)


def _request_class(operation: str) -> str:
    """Few classes of duration: a histogram costs 14 series for each."""
    match operation:
        case "list":
            return operation
        case "get" | "read" | "stat" | "download":
            return "read"
        case _:
            return "write"
