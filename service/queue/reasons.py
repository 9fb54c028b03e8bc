"""Every reason for which an attempt or a job can end, with the sentence for people and what to do next.

One closed table: the worker names a reason, the queue decides from it whether to try again, and a dead letter prints
its sentence and its command. Adding a reason is adding a line here; a test reads every line.
"""

from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    # The job's own fault: trying again as it is does not help.
    "spec_refused",
    "data_missing",
    "out_of_memory",
    "diverged",
    "permission_denied",
    # The machine's or our own fault: try again.
    "internal_error",
    "device_error",
    "store_error",
    "killed",
    "killed_out_of_memory",
    "stalled",
    "startup_timeout",
    # Limits that the submitter set.
    "attempt_timeout",
    "total_timeout",
    "queue_timeout",
    # Budgets that ran out.
    "too_many_failures",
    "too_many_interruptions",
    "too_many_lost_workers",
    # What a person asked for.
    "cancelled",
    "superseded",
    # What a search decided.
    "pruned",
]

Interruption = Literal["drain", "preempted", "paused", "quarantine", "store_outage"]
"""Why a healthy attempt was given back: it does not count as a failure."""

Retry = Literal["never", "anywhere", "elsewhere"]


@dataclass(frozen=True, slots=True)
class ReasonFacts:
    """What follows from a reason."""

    retry: Retry
    sentence: str
    next_command: str
    """A command for the terminal; `{id}` and `{name}` stand for the job."""


RETRY = "gankiln retry {id} --from-checkpoint last"
LOGS = "gankiln logs {id}"
CHECK = "gankiln check SPEC && gankiln submit SPEC"

REASONS: dict[Reason, ReasonFacts] = {
    "spec_refused": ReasonFacts("never", "The spec cannot be run as it is written.", CHECK),
    "data_missing": ReasonFacts("never", "The data is missing, empty or corrupt.", RETRY),
    "out_of_memory": ReasonFacts("never", "No batch fits into the memory of the device.", CHECK),
    "diverged": ReasonFacts("never", "A loss left the numbers, or a verdict stopped the run.", "gankiln results {id}"),
    "permission_denied": ReasonFacts("never", "The credentials do not allow what the job needs.", RETRY),
    "internal_error": ReasonFacts("anywhere", "An error of gankiln itself.", LOGS),
    "device_error": ReasonFacts("elsewhere", "The GPU or its driver failed; this machine is avoided.", RETRY),
    "store_error": ReasonFacts("anywhere", "The store did not answer as it must.", "gankiln doctor"),
    "killed": ReasonFacts("anywhere", "A signal killed the process of the run.", LOGS),
    "killed_out_of_memory": ReasonFacts(
        "anywhere", "The kernel killed the run for using more memory than the container has.", LOGS
    ),
    "stalled": ReasonFacts("anywhere", "The run made no progress for longer than its stall limit.", LOGS),
    "startup_timeout": ReasonFacts("anywhere", "The run did not begin to train within its start-up limit.", LOGS),
    "attempt_timeout": ReasonFacts("never", "One attempt took longer than its time limit.", RETRY),
    "total_timeout": ReasonFacts("never", "All attempts together took longer than the time limit.", RETRY),
    "queue_timeout": ReasonFacts("never", "No worker took the job within its queue limit.", "gankiln why {id}"),
    "too_many_failures": ReasonFacts("never", "The job failed as often as its budget allows.", LOGS),
    "too_many_interruptions": ReasonFacts("never", "The job was interrupted as often as its budget allows.", RETRY),
    "too_many_lost_workers": ReasonFacts(
        "never", "Worker after worker was lost while it ran this job; the job may be what kills them.", LOGS
    ),
    "cancelled": ReasonFacts("never", "Somebody cancelled the job.", RETRY),
    "pruned": ReasonFacts("never", "A search gave it up: other trials were better at this point.", RETRY),
    "superseded": ReasonFacts("never", "A newer spec of the same name took its place.", "gankiln status {name}"),
}

_BY_EXIT_CODE: dict[int, Reason] = {
    64: "spec_refused",
    65: "data_missing",
    66: "out_of_memory",
    67: "diverged",
    70: "internal_error",
    71: "device_error",
    74: "store_error",
    77: "permission_denied",
}


def reason_of_exit_code(exit_code: int) -> Reason:
    """The reason that an exit code of `gankiln run` stands for; a signal (negative, or 128 + n) is `killed`."""
    if exit_code < 0 or exit_code > 128:
        return "killed"
    return _BY_EXIT_CODE.get(exit_code, "internal_error")
