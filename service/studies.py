"""Studies on a store: their runs are ordinary jobs, and any worker tends them between two jobs.

    studies/open/<id> -> spec.yaml -> a job for every run that is wanted now -> study.json -> results/<name>/<id>/

Nothing is kept in memory that matters: what a run's job is called follows from the study, which trial comes next from
the trials before it, so a crash between any two steps is repaired by whoever tends next, and two who tend at once do
the same. A run that some job computes already is not run again.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import assert_never

import yaml
from pydantic import BaseModel, ValidationError

from jobs.errors import GankilnError, StoreError
from jobs.report.model import Report
from jobs.spec import LoadedStudy, load_any
from jobs.spec.variants import StudyRun, trial_name
from jobs.study import StudyReport, compare_runs, write_comparison
from jobs.study.progress import finalist_runs, known_runs, may_ask, open_trials, spent
from jobs.study.results import RunResult, State, from_report, read_run
from jobs.study.search import Trial, ask
from service import live
from service.queue import Budgets, JobNotFound, JobState, NotPossible, Queue, keys
from service.queue.model import is_job_id
from service.store import KeyNotFound, Store
from service.validate import facts_of

SOURCE = "studies/"
"""How the source of a job begins that a study made: studies/<id>/<variant>.s<seed>."""
LARGEST_REPORT_BYTES = 50_000_000

Problem = Callable[[str, str], None]
"""(id of a study, why nothing can be done for it now)."""


@dataclass
class Tended:
    """What one look at the open studies did."""

    open: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    """Ids of jobs that were made or found for a run."""
    closed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Standing:
    """A study and how all of its runs stand."""

    id: str
    study: LoadedStudy
    trials: tuple[Trial, ...]
    jobs: dict[str, str]
    """Run -> the id of its job."""
    results: tuple[RunResult, ...]

    def report(self) -> StudyReport:
        return compare_runs(self.study, self.results, self.trials)


class Studies:
    """Reads and tends the studies of one store."""

    def __init__(self, queue: Queue, budgets: Budgets | None = None, problem: Problem = lambda _id, _why: None) -> None:
        self._queue = queue
        self._store: Store = queue.store
        self._budgets = budgets or Budgets()
        self._problem = problem
        self._loaded: dict[str, LoadedStudy] = {}
        self._ended: dict[tuple[str, int], RunResult] = {}
        self._succeeded: dict[str, RunResult] = {}

    # What workers do.

    def tend(self) -> Tended:
        """Make the jobs that every open study wants now, and close those that have ended. Raises StoreError."""
        done = Tended()
        for stat in [*self._store.list(keys.OPEN_STUDIES)]:
            study_id = stat.key.removeprefix(keys.OPEN_STUDIES)
            if not is_job_id(study_id):
                continue
            done.open.append(study_id)
            try:
                self._tend(study_id, done)
            except StoreError:
                raise
            except GankilnError as error:
                self._problem(study_id, error.message)
            except Exception as error:  # a study must not end the worker that tends it
                self._problem(study_id, f"{type(error).__name__}: {error}")
        return done

    def reopen(self, source: str) -> None:
        """A job of a study ended: somebody has to look at the study, also one that was closed before a `retry`."""
        if study_id := study_of(source):
            self._store.put(keys.open_study(study_id), b"")

    def cancel(self, study: str, message: str) -> list[JobState]:
        """Nobody goes on with a study: its open jobs are cancelled, unless they belong to another one."""
        standing = self.standing(self.find(study))
        self._store.put(keys.study(standing.id, "cancelled"), message.encode())
        states = []
        for job_id in sorted(set(standing.jobs.values())):
            head = self._queue.log.head(job_id)
            if head and not head.state.terminal and study_of(head.state.source) == standing.id:
                with suppress(NotPossible):  # it has just ended
                    states.append(
                        self._queue.cancel(job_id, message or f"the study {standing.study.name} was cancelled")
                    )
        return states

    def _tend(self, study_id: str, done: Tended) -> None:
        standing = self.standing(study_id)
        cancelled = self._store.stat(keys.study(study_id, "cancelled")) is not None
        if not cancelled:
            standing = self._go_on(standing, done)
        report = standing.report()
        self._keep(study_id, report)
        if report.complete or (cancelled and not report.runs.get("running")):
            self._publish(standing)
            self._store.delete(keys.open_study(study_id))
            done.closed.append(study_id)

    def _go_on(self, standing: Standing, done: Tended) -> Standing:
        """Jobs for all that is wanted now; then further trials, as many as may run at once."""
        study, study_id = standing.study, standing.id
        jobs, results = dict(standing.jobs), list(standing.results)
        trials = list(standing.trials)
        if spent(study, results):
            return standing
        wanted = [*known_runs(study, trials), *finalist_runs(study, trials, results)]
        for run in wanted:
            self._ensure(study_id, run, jobs, done)
        results = self._results(wanted, jobs)
        search = study.study.search
        while search and may_ask(study, trials, results) and len(open_trials(study, trials, results)) < search.parallel:
            trials = self._asked(study_id, study, trials, results)
            run = study.run(study.trial(trials[-1].number, trials[-1].values), study.written.seed)
            self._ensure(study_id, run, jobs, done)
            results.append(self._result(run, jobs))
        return Standing(study_id, study, tuple(trials), jobs, tuple(results))

    def _asked(
        self, study_id: str, study: LoadedStudy, trials: Sequence[Trial], results: Sequence[RunResult]
    ) -> list[Trial]:
        """One trial more: ours, or that of whoever asked at the same time."""
        trial = ask(study, trials, results)
        said = json.dumps({"number": trial.number, "values": dict(trial.values)}).encode()
        self._store.create(keys.study(study_id, f"trials/{trial.number:04d}.json"), said)
        return self._trials(study_id)

    def _ensure(self, study_id: str, run: StudyRun, jobs: dict[str, str], done: Tended) -> None:
        """A job for `run`: one that computes the same, or a new one."""
        if run_name(run) in jobs:
            return
        job_id = self._job_of(study_id, run)
        self._store.put(keys.study_run(study_id, run_name(run), job_id), b"")
        jobs[run_name(run)] = job_id
        done.created.append(job_id)

    def _job_of(self, study_id: str, run: StudyRun) -> str:
        source = f"{SOURCE}{study_id}/{run_name(run)}"
        own = study_id[:8] + self._place(study_id, run) + hashlib.sha256(source.encode()).hexdigest()[:12]
        key = keys.run(run.fingerprint)
        first = own if self._store.create(key, own.encode()) else self._store.get(key).decode(errors="replace")
        head = self._queue.log.head(first) if is_job_id(first) and first != own else None
        if head is not None:
            if head.state.status in ("failed", "cancelled", "dead"):
                with suppress(NotPossible, JobNotFound):  # another study has just asked for it too
                    self._queue.retry(first)
            return first
        self._store.put(key, own.encode())  # what stood there was never made, or is gone
        job = run.loaded.job
        text = yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        self._queue.add(own, facts_of(job, self._budgets), text.encode(), source)
        return own

    def _place(self, study_id: str, run: StudyRun) -> str:
        """Four letters that bring the runs of a study to the queue in its order; trials come one by one anyway."""
        planned = self._loaded[study_id].places
        return f"{planned.get((run.variant, run.seed), 0xFFFF):04x}"

    def _keep(self, study_id: str, report: StudyReport) -> None:
        """The comparison as it stands, for status, metrics and pages; written where it says something new."""
        before = self.kept(study_id)
        if before is None or before.model_dump(exclude={"written"}) != report.model_dump(exclude={"written"}):
            self._store.put(keys.study(study_id, "study.json"), report.model_dump_json().encode())

    def _publish(self, standing: Standing) -> None:
        """The comparison with all its pictures, where people look for results."""
        with tempfile.TemporaryDirectory(prefix="gankiln-study-") as folder:
            out = Path(folder)
            self.write(standing, out)
            prefix = keys.study_results(standing.study.name, standing.id)
            for path in sorted(path for path in out.iterdir() if path.is_file()):
                self._store.upload(f"{prefix}/{path.name}", path)
        self._store.put(f"{prefix}/_SUCCESS", b"")

    # What people ask.

    def find(self, study: str) -> str:
        """The id of a study by its id or its name (then the newest). Raises JobNotFound."""
        if is_job_id(study) and self._store.stat(keys.study(study, "spec.yaml")):
            return study
        if keys.slug(study) == study:
            found = [stat.key.rpartition("/")[2] for stat in self._store.list(keys.study_names(study))]
            if ids := sorted(filter(is_job_id, found)):
                return ids[-1]
        raise JobNotFound(f"{study}: there is no study of this id or name", hint="gankiln status lists open ones")

    def open_ids(self) -> list[str]:
        """Ids of studies that have not ended."""
        found = (stat.key.removeprefix(keys.OPEN_STUDIES) for stat in self._store.list(keys.OPEN_STUDIES))
        return [study_id for study_id in found if is_job_id(study_id)]

    def kept(self, study_id: str) -> StudyReport | None:
        """The comparison as somebody who tended it left it; one get."""
        try:
            return StudyReport.model_validate_json(self._store.get(keys.study(study_id, "study.json")))
        except (KeyNotFound, ValidationError):
            return None

    def open_runs(self, study_id: str, report: StudyReport, running: set[str]) -> dict[str, int]:
        """How many runs of a kept report are running and waiting by now, given the ids of all running jobs."""
        still_open = report.runs.get("running", 0) + report.runs.get("waiting", 0)
        run = sum(job_id in running for job_id in self.jobs(study_id).values())
        return {"running": min(run, still_open), "waiting": max(still_open - run, 0)}

    def standing(self, study_id: str) -> Standing:
        """How all runs stand now. Raises JobNotFound, and SpecError where the study cannot be read any more."""
        study = self._study(study_id)
        trials = self._trials(study_id)
        jobs = self.jobs(study_id)
        known = known_runs(study, trials)
        results = self._results(known, jobs)
        results += self._results(finalist_runs(study, trials, results), jobs)
        return Standing(study_id, study, tuple(trials), jobs, tuple(results))

    def write(self, standing: Standing, out: Path) -> StudyReport:
        """The comparison in every form, in `out`; pictures and curves are fetched to `out`/runs first."""
        results = []
        for result in standing.results:
            folder = out / "runs" / result.variant / f"seed-{result.seed}"
            if is_job_id(result.place) and live.fetch(self._queue, result.place, folder):
                read = read_run(result.variant, result.seed, folder, result.place, result.state)
                result = replace(read, message=result.message or read.message)
            results.append(result)
        report = compare_runs(standing.study, results, standing.trials)
        write_comparison(out, report, results)
        return report

    # How.

    def _study(self, study_id: str) -> LoadedStudy:
        if study_id not in self._loaded:
            try:
                text = self._store.get(keys.study(study_id, "spec.yaml"))
            except KeyNotFound:
                raise JobNotFound(f"{study_id}: there is no such study") from None
            loaded = load_any(text, f"studies/{study_id}/spec.yaml")
            if not isinstance(loaded, LoadedStudy):
                raise JobNotFound(f"{study_id}: is no study")
            self._loaded[study_id] = loaded
        return self._loaded[study_id]

    def _trials(self, study_id: str) -> list[Trial]:
        """The trials asked so far, without a gap."""
        trials: list[Trial] = []
        for stat in self._store.list(keys.study(study_id, "trials/")):
            if stat.key.endswith(f"/{len(trials) + 1:04d}.json"):
                said = json.loads(self._store.get(stat.key))
                trials.append(Trial(len(trials) + 1, dict(said["values"])))
        return trials

    def jobs(self, study_id: str) -> dict[str, str]:
        """Run -> job. Of two that were chosen at once the first counts, for everybody."""
        prefix = keys.study(study_id, "runs/")
        found: dict[str, str] = {}
        for stat in self._store.list(prefix):
            run, _, job_id = stat.key.removeprefix(prefix).partition("/")
            if is_job_id(job_id) and (run not in found or job_id < found[run]):
                found[run] = job_id
        return found

    def _results(self, runs: Sequence[StudyRun], jobs: dict[str, str]) -> list[RunResult]:
        return [self._result(run, jobs) for run in runs]

    def _result(self, run: StudyRun, jobs: dict[str, str]) -> RunResult:
        job_id = jobs.get(run_name(run))
        if job_id is None:
            return RunResult(run.variant, run.seed, "waiting")
        return replace(self._of_job(job_id), variant=run.variant, seed=run.seed)

    def _of_job(self, job_id: str) -> RunResult:
        if job_id in self._succeeded:  # for good, as no other end is
            return self._succeeded[job_id]
        head = self._queue.log.head(job_id)
        if head is None:
            return RunResult("", 0, "failed", job_id, message="its job was removed")
        state = head.state
        if not state.terminal:
            return RunResult("", 0, "running" if state.status == "claimed" else "waiting", job_id)
        known = self._ended.get((job_id, state.marker_index))
        if known is None:
            known = self._ended[job_id, state.marker_index] = self._of_ended(state)
        if known.state == "finished":
            self._succeeded[job_id] = known
        return known

    def _of_ended(self, state: JobState) -> RunResult:
        how = ended_state(state)
        message = state.failure.message if state.failure and how != "finished" else ""
        report = self._report(state)
        if report is None:
            gone = "it left no report" if how == "finished" else message
            return RunResult("", 0, "failed" if how == "finished" else how, state.id, message=gone)
        return replace(from_report(report, "", 0, how, state.id), message=message)

    def _report(self, state: JobState) -> Report | None:
        for key in (f"{keys.results(state)}/report.json", f"{state.attempt_prefix}/report.json"):
            found = self._store.stat(key)
            if found is None or found.size_bytes > LARGEST_REPORT_BYTES:
                continue
            with suppress(KeyNotFound, ValidationError):
                return Report.model_validate_json(self._store.get(key))
        return None


def run_name(run: StudyRun) -> str:
    """`gamma-10.s2`, unique within the study."""
    return f"{run.variant}.s{run.seed}"


def study_of(source: str) -> str | None:
    """The id of the study that made a job, by the job's source."""
    study_id = source.removeprefix(SOURCE).partition("/")[0] if source.startswith(SOURCE) else ""
    return study_id if is_job_id(study_id) else None


def trial_of(state: JobState, study: LoadedStudy, trials: Sequence[Trial]) -> Trial | None:
    """The trial that a job runs, where it runs one."""
    run = state.source.rpartition("/")[2]
    return next((trial for trial in trials if run == f"{trial_name(trial.number)}.s{study.written.seed}"), None)


def ended_state(state: JobState) -> State:
    """How a job that ended is called in a study."""
    match state.status:
        case "succeeded":
            return "finished"
        case "failed" | "dead":
            return "failed"
        case "cancelled":
            return "pruned" if state.failure and state.failure.reason == "pruned" else "failed"
        case "queued" | "paused":
            return "waiting"
        case "claimed":
            return "running"
        case _:
            assert_never(state.status)


class StudyView(BaseModel):
    """An open study in a line: as somebody who tended it left it, with the running jobs of this moment."""

    id: str
    name: str = ""
    runs: dict[str, int] = {}
    metric: str = ""
    features: str | None = None
    best: float | None = None
    best_variant: str | None = None
    answer: str = "No worker has looked at it yet."


def open_studies(queue: Queue) -> list[StudyView]:
    """For `status` and the exporter: two lists, and a list and a get a study."""
    studies = Studies(queue)
    running = {marker.job_id for stat in queue.store.list(keys.ACTIVE) if (marker := keys.parse_marker(stat.key))}
    return [view(studies, study_id, running) for study_id in studies.open_ids()]


def view(studies: Studies, study_id: str, running: set[str]) -> StudyView:
    """One study in a line, given the ids of all running jobs."""
    report = studies.kept(study_id)
    if report is None:
        return StudyView(id=study_id)
    return StudyView(
        id=study_id,
        name=report.name,
        runs={**report.runs, **studies.open_runs(study_id, report, running)},
        metric=report.metric,
        features=report.features,
        best=report.best_value,
        best_variant=report.best_variant,
        answer=report.answer,
    )


def cancel_any(queue: Queue, name: str, message: str) -> list[JobState]:
    """Cancels the job, or else the study, of this id or name. Raises JobNotFound, NotPossible."""
    try:
        return [queue.cancel(name, message)]
    except JobNotFound:
        with suppress(JobNotFound):
            return Studies(queue).cancel(name, message)
        raise
