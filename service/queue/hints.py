"""Hints follow the log: whoever sees one that is behind puts it right. So does publishing what a commit made visible.

The order is always: what the new state needs, then the new hint, then away with the old one. A crash in between leaves
an old hint, and whoever reads that finds the log further on and does the rest.
"""

import json
from datetime import timedelta

from pydantic import BaseModel

from jobs.errors import GankilnError
from service.queue import keys
from service.queue.model import Failure, JobState, QueueSettings
from service.queue.reasons import REASONS
from service.store import KeyNotFound, Store

_FLAGS = {"succeeded": "_SUCCESS", "failed": "_FAILED", "cancelled": "_CANCELLED", "dead": "_DEAD"}


class DeadLetter(BaseModel):
    """dead/<id>.json: why a job failed or died, for people, with the last words and the next step."""

    id: str
    name: str
    status: str
    sentence: str
    failure: Failure
    attempts: int
    failures: int
    interruptions: int
    lost: int
    run_seconds: float
    finished_seconds: float
    next_command: str
    retry_command: str


class Hints:
    """Puts hints, results, dead letters and due dates in line with the state of a job."""

    def __init__(self, store: Store, settings: QueueSettings) -> None:
        self._store = store
        self._settings = settings
        self.problems: dict[str, GankilnError] = {}
        """Job -> why its hints or results could not be put right; gone once they could."""

    def settle_quietly(self, state: JobState, stale: str | None = None) -> bool:
        """`settle` after an entry that stands already: whoever meets the old hint does what failed here."""
        try:
            self.settle(state, stale)
        except GankilnError as error:
            self.problems[state.id] = error
            return False
        self.problems.pop(state.id, None)
        return True

    def settle(self, state: JobState, stale: str | None = None) -> None:
        """Make everything outside the log agree with `state`; remove the hint `stale`. Safe to repeat, by anyone."""
        if state.terminal:
            self._finish(state)
        marker = keys.marker(state)
        self._store.put(marker, b"")
        if stale and stale != marker:
            self._store.delete(stale)

    def forget_ending(self, state: JobState) -> None:
        """A finished job was revived: its dead letter and the flags beside its results are history."""
        self._store.delete(keys.dead_card(state.id))
        for flag in _FLAGS.values():
            self._store.delete(f"{keys.results(state)}/{flag}")

    def _finish(self, state: JobState) -> None:
        self._publish(state)
        if state.status in ("failed", "dead"):
            self._store.put(keys.dead_card(state.id), dead_letter(state).model_dump_json(indent=1).encode())
        elif state.revivals:
            self._store.delete(keys.dead_card(state.id))
        for what, days in (
            ("attempts", self._settings.retain_attempts_days),
            ("job", self._settings.retain_jobs_days),
        ):
            due_seconds = state.finished_seconds + timedelta(days=days).total_seconds()
            self._store.put(keys.due(due_seconds, what, state.id), b"")

    def _publish(self, state: JobState) -> None:
        """Copy what the commit lists to results/, and the flag last. A flag of this very ending means it was done."""
        if state.status != "succeeded" and not state.files:
            return
        folder = keys.results(state)
        flag = f"{folder}/{_FLAGS[state.status]}"
        if self._is_published(flag, state):
            return
        missing = [file.path for file in state.files if not self._copy(state, file.path)]
        content = {
            "id": state.id,
            "status": state.status,
            "index": state.marker_index,
            "sha256": {file.path: file.sha256 for file in state.files},
            "missing": missing,
        }
        self._store.put(flag, json.dumps(content, indent=1).encode())

    def _copy(self, state: JobState, path: str) -> bool:
        """Whether the committed file was there: somebody may have deleted it by hand."""
        try:
            self._store.copy(f"{state.attempt_prefix}/{path}", f"{keys.results(state)}/{path}")
        except KeyNotFound:
            return False
        return True

    def _is_published(self, flag: str, state: JobState) -> bool:
        try:
            content = json.loads(self._store.get(flag))
        except (KeyNotFound, ValueError):
            return False
        return isinstance(content, dict) and content.get("index") == state.marker_index


def dead_letter(state: JobState) -> DeadLetter:
    """The card of a failed or dead job."""
    failure = state.failure or Failure.of("internal_error", "no reason was recorded")
    facts = REASONS[failure.reason]
    return DeadLetter(
        id=state.id,
        name=state.name,
        status=state.status,
        sentence=facts.sentence,
        failure=failure,
        attempts=state.attempts,
        failures=state.failures,
        interruptions=state.interruptions,
        lost=state.lost,
        run_seconds=state.run_seconds,
        finished_seconds=state.finished_seconds,
        next_command=facts.next_command.format(id=state.id, name=state.name),
        retry_command=f"gankiln retry {state.id} --from-checkpoint last",
    )
