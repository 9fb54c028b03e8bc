"""Where everything lies in the store. Every key of the queue is made, and parsed, here.

    inbox/<anything>.yaml                     a person drops a spec here; <id or name>.cancel, .pause, .resume too
    rejected/<name>.yaml, <name>.error.txt    a spec that was refused, and why
    jobs/<id>/spec.yaml                       the spec as it was dropped, its sha256 pinned in log entry 1
    jobs/<id>/log/00000001.json ...           THE TRUTH: create-if-absent only, each with the full state
    jobs/<id>/hb/<epoch>.json                 the heartbeat of one attempt, written by its owner alone
    jobs/<id>/attempts/<epoch>/...            what one attempt leaves; visible only through the committed entry
    results/<name>/<id>/... and _SUCCESS      copies for people, made after the commit, by anyone
    dead/<id>.json                            why a job failed or died, and the next command

Hints: 0-byte objects that can be rebuilt from the log. Each carries the log index it stands for, so that a late
delete of an old hint can never remove a new one. At every moment a job that is not finished has at least one.

    ready/<99-priority>/<queued>-<id>-<index> waits for a worker; one list gives the best priority, oldest first
    active/<id>-<epoch>                       a worker has it
    paused/<id>-<index>                       waits for `resume`
    done/<yyyy>/<mm>/<dd>/<status>-<id>-<index>   the history, by day

    studies/<id>/spec.yaml                    a study as it was dropped
    studies/<id>/runs/<variant>.s<seed>/<job> which job is which run of it; an equal run of another study may be it
    studies/<id>/trials/0001.json ...         what a search tries: create-if-absent, so that any worker may ask
    studies/<id>/study.json                   the comparison as it stands
    studies/<id>/cancelled                    nobody goes on with it
    studies/open/<id>                         hint: not all of its runs have ended
    studies/names/<name>/<id>                 which studies have this name

    names/<name>/<id>                         which jobs have this name
    keys/<sha256 of the idempotency key>      the id of the one job it stands for
    keys/run-<fingerprint>                    the id of the first job that computes this, for studies to reuse
    gc/due/<yyyymmdd>-<what>-<id>             when what a finished job left may go
    gc/tomb/<id>                              the job was removed; kept for ever

Names under one prefix have a fixed form (no name is another one plus more), because SeaweedFS orders listings by
directory tree and its StartAfter would skip keys otherwise.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from service.queue.model import JOB_ID_PATTERN, JobState

INBOX = "inbox/"
REJECTED = "rejected/"
READY = "ready/"
ACTIVE = "active/"
PAUSED = "paused/"
DONE = "done/"
DEAD = "dead/"
DUE = "gc/due/"
OPEN_STUDIES = "studies/open/"

_MARKER = re.compile(rf"(?:^|[-/])(?P<id>{JOB_ID_PATTERN})-(?P<index>\d{{8}})$")
_READY = re.compile(rf"^ready/(?P<rank>\d\d)/(?P<queued>\d{{12}})-{JOB_ID_PATTERN}-\d{{8}}$")
_DONE = re.compile(rf"^done/(?P<day>\d{{4}}/\d\d/\d\d)/(?P<status>[a-z]+)-{JOB_ID_PATTERN}-\d{{8}}$")
_TICKET = re.compile(rf"\.(?P<id>{JOB_ID_PATTERN})\.ya?ml$")
_BASE32 = "0123456789abcdefghijklmnopqrstuv"


@dataclass(frozen=True, slots=True)
class Marker:
    """What a hint's key says."""

    job_id: str
    index: int


def spec(job_id: str) -> str:
    return f"jobs/{job_id}/spec.yaml"


def log_folder(job_id: str) -> str:
    return f"jobs/{job_id}/log/"


def log_entry(job_id: str, index: int) -> str:
    return f"jobs/{job_id}/log/{index:08d}.json"


def heartbeat(job_id: str, epoch: int) -> str:
    return f"jobs/{job_id}/hb/{epoch:08d}.json"


def attempts(job_id: str) -> str:
    return f"jobs/{job_id}/attempts/"


def results(state: JobState) -> str:
    return f"results/{state.name}/{state.id}"


def dead_card(job_id: str) -> str:
    return f"dead/{job_id}.json"


def name(job_name: str, job_id: str) -> str:
    return f"names/{job_name}/{job_id}"


def study(study_id: str, path: str) -> str:
    return f"studies/{study_id}/{path}"


def open_study(study_id: str) -> str:
    return f"{OPEN_STUDIES}{study_id}"


def study_names(study_name: str) -> str:
    return f"studies/names/{study_name}/"


def study_run(study_id: str, run: str, job_id: str) -> str:
    return f"studies/{study_id}/runs/{run}/{job_id}"


def study_results(study_name: str, study_id: str) -> str:
    return f"results/{study_name}/{study_id}"


def run(fingerprint: str) -> str:
    return f"keys/run-{fingerprint}"


def idempotency(key: str) -> str:
    return f"keys/{hashlib.sha256(key.encode()).hexdigest()}"


def tombstone(job_id: str) -> str:
    return f"gc/tomb/{job_id}"


def due(day_seconds: float, what: str, job_id: str) -> str:
    return f"gc/due/{datetime.fromtimestamp(day_seconds, UTC):%Y%m%d}-{what}-{job_id}"


def parse_due(key: str) -> tuple[str, str, str] | None:
    """(yyyymmdd, what, job id) of a key of `due`."""
    found = re.fullmatch(rf"gc/due/(\d{{8}})-(attempts|job)-({JOB_ID_PATTERN})", key)
    return (found[1], found[2], found[3]) if found else None


def marker(state: JobState) -> str:
    """The one hint that belongs to this state."""
    match state.status:
        case "queued":
            return (
                f"ready/{99 - state.priority:02d}/{int(state.queued_seconds):012d}-{state.id}-{state.marker_index:08d}"
            )
        case "claimed":
            return watch_me(state.id, state.epoch)
        case "paused":
            return f"paused/{state.id}-{state.marker_index:08d}"
        case "succeeded" | "failed" | "cancelled" | "dead":
            day = datetime.fromtimestamp(state.finished_seconds, UTC)
            return f"done/{day:%Y/%m/%d}/{state.status}-{state.id}-{state.marker_index:08d}"
        case _:
            assert_never(state.status)


def watch_me(job_id: str, index: int) -> str:
    """The hint of a running job; for any other job, or an entry to come, it makes watchers put its hints right."""
    return f"active/{job_id}-{index:08d}"


def parse_marker(key: str) -> Marker | None:
    """Job and log index that a hint stands for; None when the key is no hint."""
    found = _MARKER.search(key)
    return Marker(found["id"], int(found["index"])) if found else None


def parse_ready(key: str) -> tuple[int, int] | None:
    """(priority, unix seconds of its place in the queue) of a ready hint."""
    found = _READY.match(key)
    return (99 - int(found["rank"]), int(found["queued"])) if found else None


def parse_done(key: str) -> tuple[str, str] | None:
    """(yyyy/mm/dd, status) of a done hint."""
    found = _DONE.match(key)
    return (found["day"], found["status"]) if found else None


def after_class(ready_key: str) -> str:
    """A key behind all of the ready hint's priority: where a list goes on with the next one."""
    return ready_key[: len("ready/00/")] + "~"


def job_id(seconds: float, seed: bytes) -> str:
    """An id that sorts by time and is the same for everybody who saw the same object: base32hex of the seconds, then
    64 bits of the hash of what it was made from."""
    return base32(int(seconds)) + hashlib.sha256(seed).hexdigest()[:16]


def base32(number: int, digits: int = 8) -> str:
    """`number` in the alphabet 0-9a-v with leading zeros, so that text order is number order."""
    return "".join(_BASE32[(number >> (5 * place)) & 31] for place in reversed(range(digits)))


def ticket(inbox_key: str) -> str | None:
    """The id that `submit` wrote into the name of an inbox object."""
    found = _TICKET.search(inbox_key)
    return found["id"] if found else None


def slug(text: str) -> str:
    """Plain letters of any text, for a file name made from what a person wrote."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip(".-")[:80]
    return plain or "unnamed"
