"""What can go wrong with a job in the queue, beyond what the store says.

Interrupted (jobs.errors)  75
└── Fenced                     another worker owns the job now: stop, delete nothing
GankilnError
├── JobNotFound            64  no job of this id or name
├── JobGone                64  the job was removed when its retention ended
└── NotPossible            64  the job's state does not allow what was asked
"""

from jobs.errors import GankilnError, Interrupted


class Fenced(Interrupted):
    """Another worker owns the job now, or the job has ended; stop and delete nothing."""


class JobNotFound(GankilnError):
    """There is no job of this id or name."""

    exit_code = 64
    action = "reject"


class JobGone(GankilnError):
    """The job was removed when its retention ended."""

    exit_code = 64
    action = "reject"


class NotPossible(GankilnError):
    """The state of the job does not allow this."""

    exit_code = 64
    action = "reject"
