"""What finished jobs left goes when its time has come. Results stay until somebody deletes them."""

from datetime import UTC, datetime

from service.queue import keys, transitions
from service.queue.errors import JobGone, NotPossible
from service.queue.log import Draft, Head, JobLog
from service.queue.model import QueueSettings
from service.store import Store

PAGE = 100  # due dates that one sweep looks at
DAY_SECONDS = 86_400


class Retention:
    """Works off the due dates that `Hints` wrote, oldest first: one list a sweep when nothing is due."""

    def __init__(self, store: Store, log: JobLog, settings: QueueSettings) -> None:
        self._store = store
        self._log = log
        self._settings = settings

    def sweep(self) -> list[str]:
        """Delete what is due; the ids of jobs that lost something."""
        today = f"{datetime.fromtimestamp(self._store.server_time_seconds(), UTC):%Y%m%d}"
        touched = []
        for stat in [*self._store.list(keys.DUE, limit=PAGE)]:
            due = keys.parse_due(stat.key)
            if due is None or due[0] > today:
                break
            _, what, job_id = due
            if self._collect(job_id, what):
                touched.append(job_id)
            self._store.delete(stat.key)
        return touched

    def _collect(self, job_id: str, what: str) -> bool:
        """A job that was revived, or ended again later, has a newer due date and is left alone."""
        head = self._log.head(job_id)
        if head is None or not head.state.terminal:
            return False
        days = self._settings.retain_attempts_days if what == "attempts" else self._settings.retain_jobs_days
        age_days = (self._store.server_time_seconds() - head.state.finished_seconds) / DAY_SECONDS
        if age_days < days - 1:  # due dates are whole days
            return False
        return self._prune(head) if what == "attempts" else self._remove(head)

    def _prune(self, head: Head) -> bool:
        """Delete checkpoints and logs, after an entry that says so: a `retry` that came first wins that index."""
        draft = Draft("prune", "retention of attempts ended", self._log.nonce())
        try:
            appended = self._log.append(head.index + 1, draft, transitions.pruned(head.state, head.index + 1))
        except (NotPossible, JobGone):
            return False
        if appended:
            self._delete_below(keys.attempts(head.state.id))
        return appended is not None

    def _remove(self, head: Head) -> bool:
        """Delete the job. The tombstone comes first, so that no late append can bring it back (see JobLog)."""
        state = head.state
        self._store.put(keys.tombstone(state.id), b"")
        if self._log.next(head):
            return False  # a `retry` came first; its own check of the tombstone withdraws it, and the next sweep acts
        markers = {keys.marker(entry.state) for entry in self._log.history(state.id)}  # late ones may be left of each
        self._delete_below(f"jobs/{state.id}/")
        for key in (keys.dead_card(state.id), keys.name(state.name, state.id), *sorted(markers)):
            self._store.delete(key)
        return True

    def _delete_below(self, prefix: str) -> None:
        for stat in [*self._store.list(prefix)]:
            self._store.delete(stat.key)
