"""Many results to one comparison: every variant against the baseline, over the seeds that both have."""

import statistics as plain
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from jobs.report.metrics import meaning
from jobs.spec.study import Better
from jobs.spec.variants import LoadedStudy, Variant, trial_name
from jobs.study import sentences
from jobs.study.model import Estimate, RunRow, SearchRow, StudyReport, TrialRow, VariantRow
from jobs.study.progress import cost, finalists, is_complete, spent, trial_results
from jobs.study.results import Key, RunResult, known_key
from jobs.study.search import Trial
from jobs.study.statistics import compare, holm, side

SIGNIFICANT = 0.05


def compare_runs(study: LoadedStudy, results: Sequence[RunResult], trials: Sequence[Trial] = ()) -> StudyReport:
    """The comparison as it stands; `results` may hold any part of the study's runs, `trials` those asked so far."""
    chosen = finalists(study, trials, results)
    shown = [*study.variants, *(study.trial(trial.number, trial.values) for trial in chosen)]
    rows = _corrected([_row(study, variant, results) for variant in shown])
    rows = [row.model_copy(update={"sentence": sentences.of_variant(row)}) for row in rows]
    images, seconds = cost(results)
    best, key = _best_run(study, results), _key(study, results)
    report = StudyReport(
        name=study.name,
        question=study.question,
        answer="",
        metric=study.primary.metric,
        features=key[1],
        better=study.primary.better,
        seeds=study.seeds,
        complete=is_complete(study, trials, results),
        runs=dict(Counter(result.state for result in results)),
        best_value=best and best.value(key),
        best_variant=best and best.variant,
        images=images,
        seconds=seconds,
        variants=tuple(rows),
        search=_search(study, results, trials),
        notes=tuple(_notes(study, rows, results)),
        written=time.time(),
    )
    return report.model_copy(update={"answer": sentences.answer(report)})


def _row(study: LoadedStudy, variant: Variant, results: Sequence[RunResult]) -> VariantRow:
    mine = _by_seed(results, variant.name, study.seeds)
    theirs = _by_seed(results, study.baseline.name, study.seeds)
    key = _key(study, results)
    values = [value for result in mine.values() if (value := result.value(key)) is not None]
    is_baseline = variant.name == study.baseline.name
    estimates = {} if is_baseline else _estimates(mine, theirs, key, study.primary.better)
    return VariantRow(
        name=variant.name,
        changes=dict(variant.changes),
        differences=variant.differences(study.baseline),
        runs=tuple(_run_row(result, key) for result in mine.values()),
        mean=plain.fmean(values) if values else None,
        deviation=plain.stdev(values) if len(values) > 1 else None,
        primary=estimates.pop(key, None),
        others=tuple(estimates.values()),
        verdicts=_verdicts(mine.values()),
        images=sum(result.images for result in mine.values()),
        seconds=sum(result.seconds for result in mine.values()),
    )


def _key(study: LoadedStudy, results: Sequence[RunResult]) -> Key:
    """The primary metric, in the feature space in which it was measured."""
    key = (study.primary.metric, study.primary.features)
    return known_key((known for result in results for known in result.curves), key)


def _best_run(study: LoadedStudy, results: Sequence[RunResult]) -> RunResult | None:
    key = _key(study, results)
    sign = 1 if study.primary.better == "lower" else -1
    reached = [(sign * value, result) for result in results if (value := result.value(key)) is not None]
    return min(reached, key=lambda pair: pair[0])[1] if reached else None


def _by_seed(results: Sequence[RunResult], variant: str, seeds: Sequence[int]) -> dict[int, RunResult]:
    found = {result.seed: result for result in results if result.variant == variant}
    return {seed: found[seed] for seed in seeds if seed in found}


def _run_row(result: RunResult, key: Key) -> RunRow:
    return RunRow(
        seed=result.seed,
        state=result.state,
        place=result.place,
        images=result.images,
        seconds=result.seconds,
        value=result.value(key),
        message=result.message,
    )


def _estimates(
    mine: Mapping[int, RunResult], theirs: Mapping[int, RunResult], first: Key, better: Better
) -> dict[Key, Estimate]:
    """Every metric that both have for at least one seed, the primary first."""
    both = [(mine[seed].values, theirs[seed].values) for seed in mine if seed in theirs]
    known = dict.fromkeys(key for variant, baseline in both for key in variant if key in baseline)
    keys = [key for key in known if key == first] + [key for key in known if key != first]
    return {key: _estimate(key, both, better if key == first else meaning(key[0]).better) for key in keys}


def _estimate(
    key: Key,
    both: Sequence[tuple[Mapping[Key, float], Mapping[Key, float]]],
    better: Literal["lower", "higher", "unknown"],
) -> Estimate:
    pairs = [(variant[key], baseline[key]) for variant, baseline in both if key in variant and key in baseline]
    variant_values, baseline_values = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    difference = compare(variant_values, baseline_values)
    interval, bootstrap, student = difference.interval, difference.bootstrap, difference.student
    sign = -1 if better == "lower" else 1
    return Estimate(
        metric=key[0],
        features=key[1],
        better=better,
        seeds=difference.seeds,
        variant_mean=plain.fmean(variant_values),
        baseline_mean=plain.fmean(baseline_values),
        difference=difference.mean,
        interval_low=interval and interval.low,
        interval_high=interval and interval.high,
        bootstrap_low=bootstrap and bootstrap.low,
        bootstrap_high=bootstrap and bootstrap.high,
        student_low=student and student.low,
        student_high=student and student.high,
        p_value=difference.p_value,
        effect=difference.effect,
        wins=None if better == "unknown" else sum(sign * (mine - theirs) > 0 for mine, theirs in pairs),
        seeds_needed=difference.seeds_needed,
        side=side(difference, better) if better != "unknown" else "unknown",
    )


def _corrected(rows: Sequence[VariantRow]) -> list[VariantRow]:
    """Several variants are several questions: what is not clear after Holm's correction is not called clear."""
    asked = [row for row in rows if row.primary and row.primary.p_value is not None]
    corrected = dict(zip((row.name for row in asked), holm([_p(row) for row in asked]), strict=True))
    changed = []
    for row in rows:
        if row.primary is None or row.name not in corrected:
            changed.append(row)
            continue
        p_corrected, said = corrected[row.name], row.primary.side
        if said in ("better", "worse") and p_corrected > SIGNIFICANT:
            said = "unclear"
        primary = row.primary.model_copy(update={"p_corrected": p_corrected, "side": said})
        changed.append(row.model_copy(update={"primary": primary}))
    return changed


def _p(row: VariantRow) -> float:
    assert row.primary is not None and row.primary.p_value is not None
    return row.primary.p_value


def _verdicts(results: Iterable[RunResult]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for result in results:
        for detector, level in result.verdicts.items():
            found.setdefault(detector, Counter())[level] += 1
    return {detector: dict(levels) for detector, levels in sorted(found.items())}


def _search(study: LoadedStudy, results: Sequence[RunResult], trials: Sequence[Trial]) -> SearchRow | None:
    search, key = study.study.search, _key(study, results)
    if search is None:
        return None
    by_name = trial_results(study, results)
    rows = tuple(_trial_row(trial, by_name.get(trial_name(trial.number)), key) for trial in trials)
    finished = [row for row in rows if row.state == "finished" and row.value is not None]
    sign = 1 if study.primary.better == "lower" else -1
    best = min(finished, key=lambda row: sign * (row.value or 0.0), default=None)
    baseline = by_name.get(study.baseline.name)
    return SearchRow(
        space=search.model_dump(mode="json")["space"],
        planned=search.trials,
        seed=study.written.seed,
        baseline=baseline.value(key) if baseline else None,
        best=best.number if best else None,
        trials=rows,
    )


def _trial_row(trial: Trial, result: RunResult | None, key: Key) -> TrialRow:
    if result is None:
        return TrialRow(number=trial.number, values=dict(trial.values), state="waiting")
    curve = result.trained(key)
    return TrialRow(
        number=trial.number,
        values=dict(trial.values),
        state=result.state,
        value=curve[-1][1] if curve and result.state in ("finished", "pruned") else None,
        images=result.images,
        seconds=result.seconds,
    )


def _notes(study: LoadedStudy, rows: Sequence[VariantRow], results: Sequence[RunResult]) -> list[str]:
    notes = []
    if spent(study, results):
        notes.append(f"The budget of {study.study.budget.gpu_hours:g} hours is spent: no further run is started.")
    versions = sorted({result.version for result in results if result.version})
    if len(versions) > 1:
        notes.append(f"Runs of different versions of gankiln are compared: {', '.join(versions)}.")
    for row in rows:
        along = [path for path in row.differences if not any(_within(path, change) for change in row.changes)]
        if along:
            notes.append(f"{row.name} changes more than it says: {', '.join(along)} follows from it.")
    failed = [result for result in results if result.state == "failed"]
    notes += [
        f"{result.variant}, seed {result.seed}, failed: {result.message or 'without a word'}" for result in failed
    ]
    return notes


def _within(path: str, change: str) -> bool:
    return path == change or path.startswith((f"{change}.", f"{change}["))
