"""What a job is to the queue: one immutable state, and log entries that each carry the whole of it.

Everything here is read back from a store that others can write to: frozen, closed models, parsed and never evaluated.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from service.queue.reasons import Interruption, Reason
from service.store import is_key

JOB_ID_PATTERN = r"[0-9a-v]{8}[0-9a-f]{16}"
JobId = Annotated[str, StringConstraints(pattern=f"^{JOB_ID_PATTERN}$")]
JobName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _stays_inside(path: str) -> str:
    if not is_key(path):
        raise ValueError("must be a relative path of plain segments")
    return path


RelativePath = Annotated[str, StringConstraints(max_length=400), AfterValidator(_stays_inside)]

Status = Literal["queued", "claimed", "paused", "succeeded", "failed", "cancelled", "dead"]
"""queued: waits for a worker. claimed: a worker has it. paused: waits for `resume`. Then, for good: succeeded;
failed: its own error, trying again as it is does not help; cancelled: somebody asked; dead: a budget ran out."""

TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled", "dead"})
REVIVABLE: frozenset[Status] = frozenset({"failed", "cancelled", "dead"})

PRIORITIES = range(100)
"""0 to 99, larger first; 50 unless told."""


def _cut_to(length: int) -> BeforeValidator:
    """Texts of runs and machines are cut and cleaned, never refused: they must not stop what they describe."""

    def cut(text: object) -> object:
        return text[:length].encode("utf-8", "replace").decode() if isinstance(text, str) else text

    return BeforeValidator(cut)


Message = Annotated[str, _cut_to(4000)]
Line = Annotated[str, _cut_to(500)]


class Record(BaseModel):
    """Something written into the store: frozen and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Budgets(Record):
    """How often a job may end without an end. Only `failures` are the job's own."""

    max_failures: int = Field(3, ge=1, le=100)
    max_interruptions: int = Field(50, ge=1, le=10_000)
    max_lost: int = Field(5, ge=1, le=100)


class TimeLimits(Record):
    """Limits in seconds that the supervisor enforces; None is no limit."""

    startup_seconds: float = Field(1800, gt=0)
    stall_seconds: float = Field(900, gt=0)
    attempt_seconds: float | None = Field(None, gt=0)
    total_seconds: float | None = Field(None, gt=0)
    """Over all attempts together, so that retries cannot multiply the cost."""
    queue_seconds: float | None = Field(None, gt=0)


class SpecFacts(Record):
    """What the queue must know of a spec; `validate` of `Queue.ingest` makes it, so that the queue knows no spec."""

    name: JobName
    priority: int = Field(50, ge=0, le=99)
    owner: str = Field("", max_length=100)
    gpus: int = Field(1, ge=0)
    on_change: Literal["new", "supersede", "ignore"] = "new"
    """What a new spec with the name of an unfinished job does: become a second job, cancel the first, or nothing."""
    idempotency_key: str | None = Field(None, max_length=200)
    """Specs with one key are one job, whatever their content."""
    fingerprint: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Of what the job computes; the first job of each is found by it."""
    budgets: Budgets = Budgets()
    limits: TimeLimits = TimeLimits()


class StudyFacts(Record):
    """What the queue must know of a study: it keeps it, and whoever tends studies makes jobs of it."""

    name: JobName


class Checkpoint(Record):
    """A published checkpoint: objects below `prefix`, their hashes in `prefix`/MANIFEST.json, written last."""

    prefix: RelativePath
    """Relative to the job: attempts/<epoch>/checkpoints/<images>."""
    images: int = Field(ge=0)
    manifest_sha256: Sha256


class OutputFile(Record):
    """One file of a result, by its path below the attempt's output."""

    path: RelativePath
    size_bytes: int = Field(ge=0)
    sha256: Sha256


class Failure(Record):
    """Why an attempt ended badly."""

    reason: Reason
    message: Message
    hint: Message | None = None
    exit_code: int | None = None
    node: Line = ""
    log_tail: tuple[Line, ...] = Field((), max_length=100)

    @classmethod
    def of(
        cls,
        reason: Reason,
        message: str,
        *,
        hint: str | None = None,
        exit_code: int | None = None,
        node: str = "",
        log_lines: Sequence[str] = (),
    ) -> "Failure":
        """A failure with the last 100 of any number of log lines."""
        tail = tuple(log_lines[-100:])
        return cls(reason=reason, message=message, hint=hint, exit_code=exit_code, node=node, log_tail=tail)


class CancelRequest(Record):
    """Somebody wants the job to stop."""

    reason: Literal["cancelled", "superseded", "pruned"] = "cancelled"
    message: Message = ""


class JobState(Record):
    """All that is known of a job at one entry of its log. Times are unix seconds of the store: display and delays."""

    id: JobId
    name: JobName
    spec_sha256: Sha256
    owner: str = ""
    gpus: int = 1
    budgets: Budgets = Budgets()
    limits: TimeLimits = TimeLimits()
    source: str = ""
    """The inbox key it came from."""
    submitted_seconds: float

    status: Status = "queued"
    priority: int = Field(50, ge=0, le=99)
    queued_seconds: float
    """Its place in the queue among its priority: when it was submitted, or when its back-off ends."""
    marker_index: int = Field(1, ge=1)
    """The log index that last moved it between the queue's hints; part of the hint's key, so that no late delete of
    an old hint removes a new one."""

    epoch: int = Field(0, ge=0)
    """The log index of the last claim: the fencing token, and the name of the attempt's prefix. 0 before any."""
    worker: str = ""
    node: str = ""
    claimed_seconds: float = 0.0
    attempts: int = 0
    failures: int = 0
    interruptions: int = 0
    lost: int = 0
    revivals: int = 0
    """How often somebody tried it again after an end."""
    run_seconds: float = 0.0
    """Of all attempts that ended, together."""
    resume_from: Checkpoint | None = None
    """Frozen by the claim: what an attempt starts from, however late an older attempt publishes."""
    avoid_nodes: tuple[str, ...] = ()

    cancel: CancelRequest | None = None
    pause: bool = False

    failure: Failure | None = None
    """The last one, also while the job is being retried."""
    files: tuple[OutputFile, ...] = ()
    finished_seconds: float = 0.0

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def attempt_prefix(self) -> str:
        """Where the attempt of this epoch puts everything: its own prefix, invisible until it commits."""
        return f"jobs/{self.id}/attempts/{self.epoch:08d}"


EntryKind = Literal["submit", "claim", "take_over", "release", "fail", "amend", "finish", "revive", "prune"]


class Entry(Record):
    """One object of jobs/<id>/log/. The lowest free index is the compare-and-swap of the job."""

    version: Literal[1] = 1
    index: int = Field(ge=1)
    kind: EntryKind
    nonce: str
    """Unique to this write: who reads it back knows whether an unanswered create was their own."""
    writer: str
    time_seconds: float
    note: Message = ""
    """One sentence for people: what happened and why."""
    interruption: Interruption | None = None
    state: JobState


class Progress(Record):
    """What a running attempt tells with its heartbeat."""

    phase: Line = "starting"
    images: int = Field(0, ge=0)
    total_images: int | None = None
    images_per_second: float | None = None
    memory_bytes: int | None = None
    checkpoint: Checkpoint | None = None
    """The last one whose MANIFEST.json is in the store."""
    last_line: Line = ""


class Heartbeat(Record):
    """jobs/<id>/hb/<epoch>.json, overwritten by its one writer."""

    sequence: int
    worker: str
    time_seconds: float
    seconds: float
    """How long the attempt has run."""
    progress: Progress = Progress()


class QueueSettings(Record):
    """The intervals of the protocol. Ownership uses only durations on the reader's own monotonic clock."""

    ttl_seconds: float = Field(90, gt=0)
    """A worker whose heartbeat did not change for so long, seen by one observer, is lost."""
    suspect_seconds: float = Field(45, gt=0)
    minimum_reads: int = Field(3, ge=2)
    heartbeat_seconds: float = Field(15, gt=0)
    poll_seconds: float = Field(30, gt=0)
    """Mean time between polls of an idle worker; each is drawn from +-50 %."""
    backoff_base_seconds: float = Field(30, gt=0)
    backoff_cap_seconds: float = Field(1800, gt=0)
    avoid_node_seconds: float = Field(900, ge=0)
    """How long a job waits for another machine than the one that failed it."""
    spec_bytes: int = Field(256 * 1024, gt=0)
    """A larger spec is rejected unread."""
    retain_attempts_days: float = Field(30, gt=0)
    """How long checkpoints and logs of a finished job stay (results/ stay until somebody deletes them)."""
    retain_jobs_days: float = Field(365, gt=0)


_ID = re.compile(JOB_ID_PATTERN)


def is_job_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None
