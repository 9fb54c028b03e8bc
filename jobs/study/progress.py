"""Which runs a study wants at this moment, and whether it has ended; the same here and on a store."""

from collections.abc import Sequence
from itertools import chain

from jobs.spec.variants import LoadedStudy, StudyRun, trial_name
from jobs.study.results import ENDED, RunResult
from jobs.study.search import Trial


def known_runs(study: LoadedStudy, trials: Sequence[Trial]) -> list[StudyRun]:
    """The runs that do not follow from results, in the order in which they should start: trials first."""
    runs = []
    if study.study.search:
        runs.append(study.run(study.baseline, study.written.seed))
    runs += [_of_trial(study, trial, study.written.seed) for trial in trials]
    return [*runs, *study.runs]


def finalist_runs(study: LoadedStudy, trials: Sequence[Trial], results: Sequence[RunResult]) -> list[StudyRun]:
    """The best trials with the seeds of the study; none while a trial is open or may still be asked."""
    chosen = finalists(study, trials, results)
    return [_of_trial(study, trial, seed) for seed in study.seeds for trial in chosen]


def finalists(study: LoadedStudy, trials: Sequence[Trial], results: Sequence[RunResult]) -> list[Trial]:
    """The best trials, best first."""
    search = study.study.search
    if search is None or open_trials(study, trials, results) or may_ask(study, trials, results):
        return []
    by_name = trial_results(study, results)
    key, sign = (study.primary.metric, study.primary.features), 1 if study.primary.better == "lower" else -1
    reached = {
        trial.number: value
        for trial in trials
        if (result := by_name.get(trial_name(trial.number))) and (value := result.value(key)) is not None
    }
    ordered = sorted((trial for trial in trials if trial.number in reached), key=lambda t: sign * reached[t.number])
    return ordered[: search.finalists]


def trial_results(study: LoadedStudy, results: Sequence[RunResult]) -> dict[str, RunResult]:
    """Variant name -> its run with the seed of the trials."""
    return {result.variant: result for result in results if result.seed == study.written.seed}


def open_trials(study: LoadedStudy, trials: Sequence[Trial], results: Sequence[RunResult]) -> list[Trial]:
    """Trials that have not ended."""
    by_name = trial_results(study, results)
    names = {trial.number: by_name.get(trial_name(trial.number)) for trial in trials}
    return [trial for trial in trials if (result := names[trial.number]) is None or result.state not in ENDED]


def may_ask(study: LoadedStudy, trials: Sequence[Trial], results: Sequence[RunResult]) -> bool:
    """Whether a further trial fits into the plan and the budget; what finalists and seeds need is kept back."""
    search, budget = study.study.search, study.study.budget.images
    if search is None or len(trials) >= search.trials or spent(study, results):
        return False
    each = study.baseline.loaded.job.training.images
    kept_back = (1 + search.finalists) * len(study.seeds) + 1
    return budget is None or (len(trials) + 1 + kept_back) * each <= budget


def is_complete(study: LoadedStudy, trials: Sequence[Trial], results: Sequence[RunResult]) -> bool:
    """Whether every wanted run has ended, or nothing runs and the budget allows no other."""
    states = {(result.variant, result.seed): result.state for result in results}
    if spent(study, results):
        return "running" not in states.values()
    wanted = chain(known_runs(study, trials), finalist_runs(study, trials, results))
    ended = all(states.get((run.variant, run.seed)) in ENDED for run in wanted)
    return ended and not may_ask(study, trials, results)


def spent(study: LoadedStudy, results: Sequence[RunResult]) -> bool:
    """Whether the budget of hours is used up."""
    hours = study.study.budget.gpu_hours
    return hours is not None and cost(results)[1] >= hours * 3600


def cost(results: Sequence[RunResult]) -> tuple[int, float]:
    """Images and seconds of all runs together; a run that stands for several is counted once."""
    distinct = {result.place or (result.variant, result.seed): result for result in results}
    return sum(run.images for run in distinct.values()), sum(run.seconds for run in distinct.values())


def _of_trial(study: LoadedStudy, trial: Trial, seed: int) -> StudyRun:
    return study.run(study.trial(trial.number, trial.values), seed)
