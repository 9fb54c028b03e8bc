"""A search, asked trial by trial: what to try next, and when to give a trial up (Optuna, ask-and-tell).

Nothing is kept between two questions: whoever asks gives all that is known of the earlier trials, and the answer
follows from that and the study's seed alone. So a search survives any crash, and any worker may ask for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.errors import SpecError
from jobs.spec.study import Range, Search
from jobs.spec.variants import LoadedStudy, trial_name
from jobs.study.results import RunResult

if TYPE_CHECKING:
    import optuna

INSTALL = "pip install 'gankiln[search]'"


@dataclass(frozen=True)
class Trial:
    """A point of the search space, counted from 1."""

    number: int
    values: Mapping[str, Any]


def ask(study: LoadedStudy, trials: Sequence[Trial], results: Sequence[RunResult]) -> Trial:
    """The next trial, given what the earlier ones have reached so far."""
    search = _search(study)
    optuna_study = _told(study, trials, results)
    asked = optuna_study.ask(_distributions(search))
    return Trial(len(trials) + 1, {path: _plain(search, path, value) for path, value in asked.params.items()})


def should_prune(
    study: LoadedStudy, trial: Trial, curve: Sequence[tuple[int, float]], others: Sequence[Trial],
    results: Sequence[RunResult],
) -> bool:  # fmt: skip
    """Whether a trial with this `curve` of (images, value) so far should be given up."""
    search = _search(study)
    if search.prune == "none" or not curve:
        return False
    earlier = [other for other in others if other.number != trial.number]
    optuna_study = _told(study, earlier, [result for result in results if result.variant != trial_name(trial.number)])
    optuna_study.enqueue_trial(dict(_indexed(search, trial.values)))
    running = optuna_study.ask(_distributions(search))
    for images, value in curve:
        running.report(value, images)
    return running.should_prune()


def _search(study: LoadedStudy) -> Search:
    assert study.study.search is not None, "a study with a search"
    return study.study.search


def _told(study: LoadedStudy, trials: Sequence[Trial], results: Sequence[RunResult]) -> "optuna.Study":
    """An Optuna study that knows the baseline and every earlier trial, as far as each has come."""
    optuna = _optuna()
    search, seed = _search(study), study.written.seed
    key = (study.primary.metric, study.primary.features)
    made = optuna.create_study(
        direction="minimize" if study.primary.better == "lower" else "maximize",
        sampler=_sampler(search, seed, len(trials)),
        pruner=_pruner(search, study.baseline.loaded.job.evaluation.every_images),
    )
    by_name = {result.variant: result for result in results if result.seed == seed}
    for trial in trials:
        made.enqueue_trial(dict(_indexed(search, trial.values)))
        asked = made.ask(_distributions(search))
        result = by_name.get(trial_name(trial.number))
        if result is None:
            continue
        curve = result.trained(key)
        for images, value in curve:
            asked.report(value, images)
            asked.should_prune()  # successive halving notes there which rungs were reached
        match result.state:
            case "finished" if curve:
                made.tell(asked, curve[-1][1])
            case "pruned":
                made.tell(asked, state=optuna.trial.TrialState.PRUNED)
            case "failed" | "finished":
                made.tell(asked, state=optuna.trial.TrialState.FAIL)
            case _:
                pass
    return made


def _sampler(search: Search, seed: int, asked: int) -> "optuna.samplers.BaseSampler":
    """A sampler whose draws depend on the study's seed and the number of trials before, and on nothing else."""
    optuna = _optuna()
    own_seed = (seed * 1_000_003 + asked) % 2**32
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=own_seed)
    return optuna.samplers.TPESampler(
        seed=own_seed, n_startup_trials=search.startup_trials, constant_liar=search.parallel > 1
    )


def _pruner(search: Search, every_images: int | None) -> "optuna.pruners.BasePruner":
    optuna = _optuna()
    match search.prune:
        case "none":
            return optuna.pruners.NopPruner()
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=search.startup_trials)
        case "halving":
            assert every_images is not None, "checked with the spec"
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=every_images, reduction_factor=3)


def _distributions(search: Search) -> "dict[str, optuna.distributions.BaseDistribution]":
    optuna = _optuna()
    found: dict[str, Any] = {}
    for path, values in search.space.items():
        if isinstance(values, tuple):
            found[path] = optuna.distributions.CategoricalDistribution(range(len(values)))
        elif values.whole:
            found[path] = optuna.distributions.IntDistribution(int(values.low), int(values.high), log=values.log)
        else:
            found[path] = optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)
    return found


def _plain(search: Search, path: str, value: Any) -> Any:
    """Choices are asked by their place in the list, so that a choice may be anything that a spec can hold."""
    values = search.space[path]
    return values[value] if isinstance(values, tuple) else value


def _indexed(search: Search, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(path, _index(search.space[path], value)) for path, value in values.items()]


def _index(allowed: Range | tuple[Any, ...], value: Any) -> Any:
    return allowed.index(value) if isinstance(allowed, tuple) else value


def _optuna():  # type: ignore[no-untyped-def] # noqa: ANN202 - imported where a search is asked, and not before
    try:
        import optuna
    except ImportError:
        raise SpecError("study.search: Optuna is not installed here", hint=INSTALL) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
