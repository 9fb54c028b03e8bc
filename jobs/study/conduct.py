"""A study here, without a queue: one run after another, and the same command again goes on.

    DIR/study.yaml                     the study as it was written
    DIR/runs/<variant>/seed-<n>/       the run directory of each run; equal runs share one
    DIR/trials.json                    the trials of a search, as they were asked
    DIR/study.json, .html, .md, .csv   the comparison, rewritten after every run

Several processes may work on one directory at once: each takes the runs that no other has.
"""

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from jobs.errors import DataError, GankilnError, Interrupted, PermissionDenied, SpecError
from jobs.events import Event
from jobs.report.model import write_atomically
from jobs.spec.variants import LoadedStudy, StudyRun, load_any, trial_name
from jobs.study.comparison import compare_runs
from jobs.study.model import StudyReport
from jobs.study.progress import finalist_runs, known_runs, may_ask, open_trials, spent
from jobs.study.results import ENDED, RunResult, curve_so_far, note_end, noted_end, read_run
from jobs.study.search import Trial, ask, should_prune
from jobs.study.write import write_comparison

STUDY_SPEC, TRIALS = "study.yaml", "trials.json"

Watch = Callable[[Event], None]
Train = Callable[[StudyRun, Path, Watch, Callable[[], bool]], None]
"""(run, its directory, who sees its events, whether to stop): trains, or goes on. Raises as jobs.run.run does."""
FOR_ALL = (SpecError, DataError, PermissionDenied)
"""What stops one run so would stop every other too."""


def conduct(study: LoadedStudy, out: Path, train: Train, tell: Callable[[StudyReport], None]) -> StudyReport:
    """Runs what has not ended yet; after every run the comparison is written and told.

    A run that fails by itself is noted and the study goes on. Raises SpecError where `out` holds another study, what
    would fail every run, and Interrupted when a run was asked to stop.
    """
    _keep(study, out)
    while True:
        with _next_run(study, out) as run:
            if run is None:
                return compare_here(study, out)
            _run(study, out, run, train)
        tell(compare_here(study, out))


def compare_here(study: LoadedStudy, out: Path) -> StudyReport:
    """The comparison of what lies in `out`, written there."""
    trials = read_trials(out)
    results = read_here(study, out, trials)
    report = compare_runs(study, results, trials)
    write_comparison(out, report, results)
    return report


def load_here(out: Path) -> LoadedStudy:
    """The study that `out` holds. Raises SpecError."""
    try:
        text = (out / STUDY_SPEC).read_bytes()
    except OSError:
        raise SpecError(f"{out}: holds no study", hint="give the --out of a study, or its name in a store") from None
    loaded = load_any(text, str(out / STUDY_SPEC))
    if not isinstance(loaded, LoadedStudy):
        raise SpecError(f"{out / STUDY_SPEC}: is one job and no study")
    return loaded


def place(out: Path, study: LoadedStudy, run: StudyRun) -> Path:
    """The directory of a run: that of the first run with the same fingerprint."""
    first = study.first_of.get(run.fingerprint, run)
    return out / "runs" / first.variant / f"seed-{first.seed}"


def read_here(study: LoadedStudy, out: Path, trials: Sequence[Trial]) -> list[RunResult]:
    """How every run stands that the study wants."""
    results = [_read(study, out, run) for run in known_runs(study, trials)]
    return results + [_read(study, out, run) for run in finalist_runs(study, trials, results)]


def read_trials(out: Path) -> list[Trial]:
    """The trials asked so far."""
    path = out / TRIALS
    said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [Trial(trial["number"], trial["values"]) for trial in said]


def _read(study: LoadedStudy, out: Path, run: StudyRun) -> RunResult:
    folder = place(out, study, run)
    ended = noted_end(folder)
    state, message = ended or (None, "")
    result = read_run(run.variant, run.seed, folder, str(folder.relative_to(out)), state)
    return replace(result, message=message or result.message)


@contextlib.contextmanager
def _next_run(study: LoadedStudy, out: Path) -> Iterator[StudyRun | None]:
    """A run that has not ended and that no other process has, ours while inside; None when there is none."""
    with contextlib.ExitStack() as stack:
        with _locked(out / ".lock"):
            found = next(
                (run for run in _open_runs(study, out) if stack.enter_context(_claimed(out, study, run))), None
            )
        yield found


def _open_runs(study: LoadedStudy, out: Path) -> Iterator[StudyRun]:
    """What has not ended, in the order in which it should run; then a new trial, if one may be asked."""
    trials = read_trials(out)
    results = read_here(study, out, trials)
    if spent(study, results):
        return
    states = {(result.variant, result.seed): result.state for result in results}
    wanted = [*known_runs(study, trials), *finalist_runs(study, trials, results)]
    waiting = [run for run in wanted if states[run.variant, run.seed] not in ENDED]
    first = [run for run in waiting if study.study.search and run.seed == study.written.seed]
    yield from first
    search = study.study.search
    parallel = search.parallel if search else 0
    if may_ask(study, trials, results) and len(open_trials(study, trials, results)) < parallel:
        trial = ask(study, trials, results)
        said = [{"number": each.number, "values": dict(each.values)} for each in (*trials, trial)]
        write_atomically(out / TRIALS, f"{json.dumps(said, indent=1)}\n".encode())
        yield study.run(study.trial(trial.number, trial.values), study.written.seed)
    yield from (run for run in waiting if run not in first)


def _run(study: LoadedStudy, out: Path, run: StudyRun, train: Train) -> None:
    """One run to its end. What fails for reasons of its own is noted; what stops all others too is raised."""
    folder = place(out, study, run)
    pruning = _Pruning(study, out, run)
    try:
        train(run, folder, pruning.see, lambda: pruning.given_up)
    except Interrupted:
        if not pruning.given_up:
            raise
        note_end(folder, "pruned", pruning.message)
    except FOR_ALL:
        raise
    except GankilnError as error:
        note_end(folder, "failed", error.message)
    except Exception as error:  # a bug that one variant meets must not cost the night
        note_end(folder, "failed", f"{type(error).__name__}: {error}")


class _Pruning:
    """Watches a trial's evaluations, and says when to give it up."""

    def __init__(self, study: LoadedStudy, out: Path, run: StudyRun) -> None:
        self._study, self._out, self._run = study, out, run
        self._search = study.study.search
        self.given_up = False
        self.message = ""

    def see(self, event: Event) -> None:
        """An event of the run."""
        if event.get("event") != "evaluation" or self._search is None or self._search.prune == "none":
            return
        trials = read_trials(self._out)
        trial = next((trial for trial in trials if trial_name(trial.number) == self._run.variant), None)
        is_last = event.get("images", 0) >= self._run.loaded.job.training.images
        if trial is None or self._run.seed != self._study.written.seed or is_last:
            return
        folder = place(self._out, self._study, self._run)
        primary = self._study.primary
        curve = curve_so_far(folder, (primary.metric, primary.features))
        if should_prune(self._study, trial, curve, trials, read_here(self._study, self._out, trials)):
            self.given_up = True
            self.message = f"given up at {event['images']:,} images: {self._search.prune} of the other trials is better"


@contextlib.contextmanager
def _claimed(out: Path, study: LoadedStudy, run: StudyRun) -> Iterator[bool]:
    """Whether the run is ours, while inside."""
    folder = place(out, study, run)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _keep(study: LoadedStudy, out: Path) -> None:
    """Writes the study beside its runs. Raises SpecError where the directory holds another one."""
    text = yaml.safe_dump(
        study.written.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True
    )
    path = out / STUDY_SPEC
    if path.exists() and load_here(out).baseline.loaded.job != study.baseline.loaded.job:
        raise SpecError(f"{out} holds a study of another baseline", hint="give another --out")
    write_atomically(path, text.encode())
