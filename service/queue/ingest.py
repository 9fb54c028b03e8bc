"""From the inbox to jobs: any worker may do it, two may do it at once, and each step may be the last before a crash.

A job's id follows from what was dropped (its name, content and time), so two workers make the same job; the object in
the inbox is deleted last, so a crash is repaired by whoever looks next.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from jobs.errors import GankilnError, SpecError
from service.queue import keys, transitions
from service.queue.errors import JobGone, JobNotFound, NotPossible
from service.queue.hints import Hints
from service.queue.log import Draft, JobLog
from service.queue.model import QueueSettings, SpecFacts, StudyFacts, is_job_id
from service.store import KeyNotFound, Stat, Store, StoreRefused

PAGE = 100  # dropped objects that one poll looks at

Validate = Callable[[bytes, str], SpecFacts | StudyFacts]
"""(content, file name) -> what the queue needs to know. Raises SpecError, whose text goes to the submitter."""

Verb = Literal["cancel", "pause", "resume", "supersede"]
Control = Callable[[Verb, str, str], object]
"""(verb, id or name of a job, why). Raises JobNotFound, NotPossible."""


@dataclass
class IngestReport:
    """What one look into the inbox did."""

    created: list[str] = field(default_factory=list)
    """Ids of new jobs."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Inbox key -> why."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Inbox key -> why nothing was to be done: the same job is there already, or `on_change: ignore`."""
    controls: list[str] = field(default_factory=list)
    """Control files that were obeyed."""
    studies: list[str] = field(default_factory=list)
    """Ids of new studies, which have no jobs yet."""

    @property
    def empty(self) -> bool:
        return not (self.created or self.rejected or self.dropped or self.controls or self.studies)


class Inbox:
    """Reads what people dropped."""

    def __init__(self, store: Store, log: JobLog, hints: Hints, settings: QueueSettings, *, control: Control) -> None:
        self._store = store
        self._log = log
        self._hints = hints
        self._settings = settings
        self._control = control
        self._page_after = ""
        self._left: set[tuple[str, str]] = set()

    def ingest(self, validate: Validate) -> IngestReport:
        """One list, then every dropped object becomes a job, is rejected, or is obeyed. Raises Unavailable."""
        report = IngestReport()
        page = [*self._store.list(keys.INBOX, limit=PAGE, start_after=self._page_after)]
        self._page_after = page[-1].key if len(page) == PAGE else ""  # what cannot be taken yet hides nothing for long
        for stat in page:
            if self._is_complete(stat):
                self._take(stat, validate, report)
        return report

    def _is_complete(self, stat: Stat) -> bool:
        """A file that somebody may still be writing is left alone."""
        name = stat.key.rpartition("/")[2]
        age_seconds = self._store.server_time_seconds() - stat.modified_seconds
        return not name.endswith((".tmp", ".part")) and not 0 <= age_seconds < self._settle_seconds(name)

    def _settle_seconds(self, name: str) -> float:
        """What `submit` wrote under its ticket was put in one piece."""
        return 0.0 if keys.ticket(name) else self._store.settle_seconds

    def _take(self, stat: Stat, validate: Validate, report: IngestReport) -> None:
        name = stat.key.rpartition("/")[2]
        stem, _, suffix = name.rpartition(".")
        try:
            match suffix:
                case "yaml" | "yml":
                    self._take_spec(stat, validate, report)
                case "cancel" | "pause" | "resume":
                    self._control(suffix, stem, f"asked by {stat.key}")
                    report.controls.append(stat.key)
                    self._store.delete(stat.key)
                case _:
                    raise SpecError(f"{name}: a spec is a file that ends in .yaml; this does not")
        except KeyNotFound:
            return  # another worker was faster
        except (JobNotFound, NotPossible, SpecError) as refusal:
            self._reject(stat, refusal, report)
        except StoreRefused as refusal:
            self._leave(stat, refusal, report)

    def _take_spec(self, stat: Stat, validate: Validate, report: IngestReport) -> None:
        if stat.size_bytes > self._settings.spec_bytes:
            raise SpecError(
                f"{stat.key}: has {stat.size_bytes} bytes, a spec at most {self._settings.spec_bytes}",
                hint="data belongs beside the spec, named in it, not inside it",
            )
        content, stat = self._store.read(stat.key)
        if stat.size_bytes != len(content):
            return  # somebody is writing into the file at this moment
        facts = _facts_of(content, stat.key, validate)
        job_id = identity(stat.key, content, stat.modified_seconds)
        if isinstance(facts, StudyFacts):
            self._keep_study(job_id, facts, content, report)
        elif reason := self._reason_to_drop(job_id, facts):
            report.dropped[stat.key] = reason
        else:
            self._make_job(job_id, facts, content, stat.key, report)
        self._clear(stat)

    def add(self, job_id: str, facts: SpecFacts, content: bytes, source: str) -> IngestReport:
        """Make a job of `content` under an id that follows from `source`. Safe to repeat, by anyone."""
        report = IngestReport()
        self._make_job(job_id, facts, content, source, report)
        return report

    def _keep_study(self, study_id: str, facts: StudyFacts, content: bytes, report: IngestReport) -> None:
        """Spec, name, hint: in this order, each safe to repeat."""
        self._store.create(keys.study(study_id, "spec.yaml"), content)
        self._store.put(f"{keys.study_names(facts.name)}{study_id}", b"")
        self._store.put(keys.open_study(study_id), b"")
        report.studies.append(study_id)

    def _reason_to_drop(self, job_id: str, facts: SpecFacts) -> str | None:
        if facts.idempotency_key is not None:
            key = keys.idempotency(facts.idempotency_key)
            if not self._store.create(key, job_id.encode()):
                first = self._store.get(key).decode(errors="replace")
                if first != job_id:
                    return f"idempotency_key: job {first} has it already"
        if facts.on_change == "ignore" and (others := self._older_unfinished(job_id, facts.name)):
            return f"on_change: ignore, and job {others[0]} of this name is not finished"
        return None

    def _make_job(self, job_id: str, facts: SpecFacts, content: bytes, source: str, report: IngestReport) -> None:
        """Spec, name, log entry 1, hint: in this order, each safe to repeat."""
        digest = hashlib.sha256(content).hexdigest()
        if not self._store.create(keys.spec(job_id), content) and self._store.get(keys.spec(job_id)) != content:
            raise SpecError(f"{source}: the id {job_id} in its name belongs to another spec", hint="submit it again")
        self._store.put(keys.name(facts.name, job_id), b"")
        now = self._store.server_time_seconds()
        state = transitions.submitted(job_id, facts, spec_sha256=digest, source=source, now_seconds=now)
        try:
            head = self._log.append(1, Draft("submit", f"submitted as {source}", self._log.nonce()), state)
        except JobGone:
            self._forget(job_id, facts)
            report.dropped[source] = f"job {job_id} was removed when its retention ended"
            return
        if head:
            report.created.append(job_id)
        else:
            head = self._log.head(job_id, 1)
            report.dropped[source] = f"job {job_id} is there already"
        if head:
            self._hints.settle(head.state)
            if facts.fingerprint:
                self._store.create(keys.run(facts.fingerprint), job_id.encode())
        if facts.on_change == "supersede":
            self._supersede(job_id, facts.name)

    def _forget(self, job_id: str, facts: SpecFacts) -> None:
        self._store.delete(keys.spec(job_id))
        self._store.delete(keys.name(facts.name, job_id))

    def _supersede(self, job_id: str, name: str) -> None:
        for other in self._older_unfinished(job_id, name):
            with suppress(NotPossible, JobNotFound):  # it ended meanwhile
                self._control("supersede", other, f"superseded by job {job_id}")

    def _older_unfinished(self, job_id: str, name: str) -> list[str]:
        """Jobs of this name with a smaller id: of two that are dropped at once, only one sees the other."""
        found = []
        for stat in self._store.list(f"names/{name}/"):
            other = stat.key.rpartition("/")[2]
            if is_job_id(other) and other < job_id and (head := self._log.head(other)) and not head.state.terminal:
                found.append(other)
        return found

    def _clear(self, stat: Stat) -> None:
        """Empty the place in the inbox, unless somebody dropped a newer version into it meanwhile."""
        found = self._store.stat(stat.key)
        if found and found.etag == stat.etag:
            self._store.delete(stat.key)

    def _reject(self, stat: Stat, refusal: GankilnError, report: IngestReport) -> None:
        """Out of the inbox, with the reason beside it."""
        name = stat.key.removeprefix(keys.INBOX)
        stem, _, suffix = name.rpartition(".")
        target = f"{keys.REJECTED}{keys.slug(stem or name)}"
        self._store.copy(stat.key, f"{target}.{keys.slug(suffix)}")
        self._store.put(f"{target}.error.txt", f"{refusal}\n".encode())
        report.rejected[stat.key] = str(refusal)
        self._clear(stat)

    def _leave(self, stat: Stat, refusal: GankilnError, report: IngestReport) -> None:
        """An object that may not be read or moved stays; one sentence says so, and nobody else has to wait for it."""
        report.rejected[stat.key] = str(refusal)
        if (stat.key, stat.etag) not in self._left:
            self._left.add((stat.key, stat.etag))
            name = keys.slug(stat.key.removeprefix(keys.INBOX))
            self._store.put(f"{keys.REJECTED}{name}.error.txt", f"{refusal}\n".encode())


def identity(inbox_key: str, content: bytes, modified_seconds: float) -> str:
    """The id that everybody gives to the same dropped object; `submit` writes it into the name beforehand."""
    digest = hashlib.sha256(content).hexdigest()
    return keys.ticket(inbox_key) or keys.job_id(modified_seconds, f"{inbox_key}\n{digest}".encode())


def _facts_of(content: bytes, key: str, validate: Validate) -> SpecFacts | StudyFacts:
    """Whatever goes wrong with one spec is that spec's rejection and never the end of the worker."""
    try:
        return validate(content, key.rpartition("/")[2])
    except SpecError:
        raise
    except GankilnError as error:
        raise SpecError(error.message, hint=error.hint) from error
    except Exception as error:
        raise SpecError(f"{key}: could not be read: {type(error).__name__}: {str(error)[:500]}") from error
