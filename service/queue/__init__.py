"""Jobs on a bucket or a directory: submit, claim, beat, release, finish. Read queue.py first, then keys.py, log.py."""

from service.queue.clock import Clock, SystemClock
from service.queue.errors import Fenced, JobGone, JobNotFound, NotPossible
from service.queue.hints import DeadLetter
from service.queue.ingest import IngestReport, Validate
from service.queue.lease import Lease
from service.queue.model import (
    Budgets,
    Checkpoint,
    Entry,
    Failure,
    Heartbeat,
    JobState,
    OutputFile,
    Progress,
    QueueSettings,
    SpecFacts,
    Status,
    StudyFacts,
    TimeLimits,
)
from service.queue.queue import Queue
from service.queue.reasons import REASONS, Interruption, Reason, reason_of_exit_code
from service.queue.views import Depth, JobView, Overview, Why

__all__ = [
    "REASONS",
    "Budgets",
    "Checkpoint",
    "Clock",
    "DeadLetter",
    "Depth",
    "Entry",
    "Failure",
    "Fenced",
    "Heartbeat",
    "IngestReport",
    "Interruption",
    "JobGone",
    "JobNotFound",
    "JobState",
    "JobView",
    "Lease",
    "NotPossible",
    "OutputFile",
    "Overview",
    "Progress",
    "Queue",
    "QueueSettings",
    "Reason",
    "SpecFacts",
    "Status",
    "StudyFacts",
    "SystemClock",
    "TimeLimits",
    "Validate",
    "Why",
    "reason_of_exit_code",
]
