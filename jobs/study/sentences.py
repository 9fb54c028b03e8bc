"""What a comparison says in words. Never a bare "better": a difference, its interval, its seeds."""

from collections.abc import Mapping, Sequence

from jobs.report.metrics import meaning
from jobs.report.words import figure, plural
from jobs.study.model import Estimate, StudyReport, VariantRow
from jobs.study.statistics import MOST_SEEDS

OPEN = ("waiting", "running")
TRIAL = "trial-"


def metric_name(metric: str, features: str | None) -> str:
    """`Fréchet distance (pixels)`, `recall (pixels)`: as it is called in the middle of a sentence."""
    title = meaning(metric).title
    is_name = title[1:2].isupper() or title.split()[0] in ("Fréchet", "Vendi")
    called = title if is_name else title[:1].lower() + title[1:]
    return f"{called} ({features})" if features else called


def signed(value: float | None) -> str:
    """+0.31, −2.2"""
    return f"+{figure(value)}" if value is not None and value > 0 else figure(value)


def interval(estimate: Estimate) -> str:
    """`−5.1 to −1.3`; empty where one seed gives none."""
    if estimate.interval_low is None:
        return ""
    return f"{signed(estimate.interval_low)} to {signed(estimate.interval_high)}"


def of_variant(row: VariantRow) -> str:
    """What is known of one variant."""
    said = _of_primary(row.primary) if row.primary else _of_nothing(row)
    failed = [run for run in row.runs if run.state == "failed"]
    if failed and row.primary:
        said += f" {len(failed)} of {plural(len(row.runs), 'run')} failed and is not in these numbers."
    return said


def _of_primary(estimate: Estimate) -> str:
    size = f"{signed(estimate.difference)}"
    if interval(estimate):
        size += f" (95 % {interval(estimate)})"
    wins = "" if estimate.wins is None else f", better in {estimate.wins} of {plural(estimate.seeds, 'seed')}"
    match estimate.side:
        case "better" | "worse":
            return f"{estimate.side.title()} than the baseline: {size}{wins}."
        case "equal":
            return "Exactly equal to the baseline: what it changes has no effect on this number."
        case "unknown":
            return f"One seed says nothing of the spread: {size}. {_more_seeds(estimate)}"
        case "unclear":
            return f"No clear difference: {size}{wins}. {_more_seeds(estimate)}"


def _more_seeds(estimate: Estimate) -> str:
    if estimate.seeds == 1:
        return "Two more seeds would give a first interval."
    if estimate.interval_low is not None and not _holds_zero(estimate):
        return (
            f"The interval holds no zero, but of several variants one does so by chance now and then "
            f"(p {figure(estimate.p_value, 2)}, corrected {figure(estimate.p_corrected, 2)}): more seeds are needed."
        )
    if estimate.seeds_needed is None:
        return f"If there is one, it is too small to be found with {MOST_SEEDS:,} seeds."
    more = max(estimate.seeds_needed - estimate.seeds, 1)
    return f"If it is as large as it looks, about {plural(more, 'more seed')} would decide it."


def _holds_zero(estimate: Estimate) -> bool:
    low, high = estimate.interval_low, estimate.interval_high
    return low is not None and high is not None and low <= 0 <= high


def _of_nothing(row: VariantRow) -> str:
    states = [run.state for run in row.runs]
    if row.name == "baseline":
        return ""
    if states and all(state == "failed" for state in states):
        return f"All of its {plural(len(states), 'run')} failed."
    return "Nothing to compare yet."


def answer(report: StudyReport) -> str:
    """The whole study in one sentence."""
    said = _answer(report)
    if report.complete:
        return said
    ended = sum(count for state, count in report.runs.items() if state not in OPEN)
    return f"So far ({plural(ended, 'run')} ended): {said}"


def _answer(report: StudyReport) -> str:
    variants = [row for row in report.variants[1:] if row.primary]
    name = metric_name(report.metric, report.features)
    if not variants:
        return _answer_of_search(report) or f"Nothing can be compared yet in {name}."
    if all(row.primary and row.primary.seeds == 1 for row in variants):
        return f"One seed decides nothing in {name}: {_listed(variants)} can be compared once there are two more."
    clear = [row for row in variants if row.primary and row.primary.side in ("better", "worse")]
    rest = [row for row in variants if row not in clear]
    parts = [_clear(row) for row in sorted(clear, key=lambda row: row.primary.side if row.primary else "")]
    if rest:
        parts.append(_unclear(rest, alone=not clear))
    direction = f"{report.better} is better"
    return f"In {name} ({direction}), {'; '.join(parts)}."


def _clear(row: VariantRow) -> str:
    estimate = row.primary
    assert estimate is not None
    values = f" ({_values(row.changes)})" if row.name.startswith(TRIAL) else ""
    return (
        f"{row.name}{values} is {estimate.side} than the baseline, {figure(estimate.variant_mean)} instead of "
        f"{figure(estimate.baseline_mean)} ({signed(estimate.difference)}, 95 % {interval(estimate)}, "
        f"{plural(estimate.seeds, 'seed')})"
    )


def _unclear(rows: Sequence[VariantRow], *, alone: bool) -> str:
    equal = [row for row in rows if row.primary and row.primary.side == "equal"]
    if len(equal) == len(rows):
        return f"{_listed(rows)} {'is' if len(rows) == 1 else 'are'} exactly equal to the baseline"
    needed = [row.primary.seeds_needed - row.primary.seeds for row in rows if row.primary and row.primary.seeds_needed]
    start = "no clear difference was found" if alone else "no clear difference"
    said = f"{start} between the baseline and {_listed(rows)}"
    fewest = max(min(needed), 1) if needed else None
    return said if fewest is None else f"{said}: at least {plural(fewest, 'more seed')} would be needed to decide"


def _listed(rows: Sequence[VariantRow], most: int = 4) -> str:
    names = [row.name for row in rows]
    if len(names) > most:
        return f"{len(names)} variants"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _answer_of_search(report: StudyReport) -> str:
    search = report.search
    if search is None or search.best is None:
        return ""
    best = next(trial for trial in search.trials if trial.number == search.best)
    against = f", the baseline {figure(search.baseline)}" if search.baseline is not None else ""
    name = metric_name(report.metric, report.features)
    return (
        f"The best of {plural(len(search.trials), 'trial')} reaches {figure(best.value)} in {name} with "
        f"{_values(best.values)}{against}; with one seed, and chosen from many, it is partly luck."
    )


def _values(changes: Mapping[str, object]) -> str:
    """`gamma 10, noise off`"""
    return ", ".join(f"{path.rpartition('.')[2]} {_value(value)}" for path, value in changes.items())


def _value(value: object) -> str:
    return figure(value) if isinstance(value, float) else str(value)
