"""What a study's page draws: differences with their intervals, curves of all runs, parameters against results."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from jobs.report import curves
from jobs.report.charts import Drawn
from jobs.report.curves import Axis, Chart, Point, Series
from jobs.report.metrics import meaning
from jobs.report.words import figure, log_label
from jobs.study.model import Estimate, SearchRow, StudyReport, TrialRow
from jobs.study.results import Key, RunResult

MOST_VARIANTS = curves.MOST_SERIES
FOREST_WIDTH, FOREST_HEIGHT = 220, 26
PLOT_WIDTH, PLOT_HEIGHT = 420, 240
CLIPPED_AT = 3.0
"""An interval is drawn up to so many times the largest difference: one that knows nothing must not hide the others."""


def forest(estimates: Sequence[Estimate | None]) -> list[Markup]:
    """For every difference a dot on its interval, all on one scale around zero."""
    known = [estimate for estimate in estimates if estimate]
    largest = max((abs(estimate.difference) for estimate in known), default=0.0)
    widest = max((abs(end) for estimate in known for end in _ends(estimate)), default=0.0)
    limit = min(widest, largest * CLIPPED_AT) or 1.0
    axis = Axis(-limit * 1.05, limit * 1.05, 4, FOREST_WIDTH - 4)
    return [_bar(estimate, axis) if estimate else Markup("") for estimate in estimates]


def _ends(estimate: Estimate) -> tuple[float, ...]:
    if estimate.interval_low is None or estimate.interval_high is None:
        return (estimate.difference,)
    return estimate.interval_low, estimate.interval_high


def _bar(estimate: Estimate, axis: Axis) -> Markup:
    middle = FOREST_HEIGHT / 2
    view = {"viewBox": f"0 0 {FOREST_WIDTH} {FOREST_HEIGHT}", "class": f"forest {estimate.side}", "role": "img"}
    root = Element("svg", {**view, "aria-label": f"difference {figure(estimate.difference)}"})
    zero = f"{axis.place(0):.1f}"
    SubElement(root, "line", {"class": "zero", "x1": zero, "x2": zero, "y1": "0", "y2": str(FOREST_HEIGHT)})
    low, high = min(_ends(estimate)), max(_ends(estimate))
    ends = {"x1": f"{axis.place(low):.1f}", "x2": f"{axis.place(high):.1f}", "y1": f"{middle}", "y2": f"{middle}"}
    SubElement(root, "line", {"class": "range", **ends})
    for end in (low, high):
        if axis.low <= end <= axis.high:
            place = f"{axis.place(end):.1f}"
            SubElement(root, "line", {"class": "range", "x1": place, "x2": place, "y1": "8", "y2": "18"})
    SubElement(root, "circle", {"cx": f"{axis.place(estimate.difference):.1f}", "cy": f"{middle}", "r": "4.5"})
    return Markup(tostring(root, encoding="unicode"))  # noqa: S704 - numbers and our own words only


def drawn_variants(report: StudyReport) -> list[str]:
    """The variants that have a colour: the baseline, and the best of the others where there are too many."""
    sign = 1 if report.better == "lower" else -1
    others = [row for row in report.variants[1:] if row.runs]
    if len(others) >= MOST_VARIANTS:
        others = sorted(others, key=lambda row: math.inf if row.mean is None else sign * row.mean)[: MOST_VARIANTS - 1]
    kept = {row.name for row in others}
    return [row.name for index, row in enumerate(report.variants) if index == 0 or row.name in kept]


def metric_charts(report: StudyReport, results: Sequence[RunResult]) -> dict[Key, Drawn]:
    """One chart a metric: every run thin, the mean of each variant with a band from its lowest to its highest run."""
    names = drawn_variants(report)
    runs = [run for run in results if run.variant in names and run.seed in report.seeds]
    first = (report.metric, report.features)
    keys = dict.fromkeys([first, *sorted({key for run in runs for key in run.curves}, key=str)])
    charts = {key: _metric_chart(key, names, runs, large=key == first) for key in keys}
    return {key: Drawn(chart) for key, chart in charts.items() if chart.has_points()}


def loss_charts(report: StudyReport, results: Sequence[RunResult]) -> list[Drawn]:
    """One chart a loss: every run as a line of its variant's colour."""
    names = drawn_variants(report)
    runs = [run for run in results if run.variant in names and run.seed in report.seeds]
    charts = []
    for loss in sorted({name for run in runs for name in run.losses}):
        lines = [
            Series(
                f"{run.variant}, seed {run.seed}",
                curves.line("", [(float(x), y) for x, y in run.losses[loss]], most=80).points,
                colour=names.index(run.variant) + 1,
            )
            for run in runs
            if len(run.losses.get(loss, ())) > 1
        ]
        plain = tuple(
            Series(line.name, tuple(Point(p.x, p.y) for p in line.points), colour=line.colour) for line in lines
        )
        charts.append(Chart(loss, plain, log=curves.suits_log(plain)))
    return [Drawn(chart) for chart in charts if chart.has_points()]


def _metric_chart(key: Key, names: Sequence[str], runs: Sequence[RunResult], *, large: bool) -> Chart:
    thin: list[Series] = []
    means: list[Series] = []
    for colour, name in enumerate(names, start=1):
        own = [run.curves[key] for run in runs if run.variant == name and key in run.curves]
        if len(own) > 1:
            points = [tuple(Point(x, y) for x, y in curve) for curve in own]
            thin += [Series(name, each, colour=colour, faint=True) for each in points]
        means.append(Series(name, _mean(own), dots=True, colour=colour))
    series = (*thin, *(line for line in means if line.points))
    better = meaning(key[0]).better
    return Chart(
        title=meaning(key[0]).title + (f" in {key[1]}" if key[1] else ""),
        series=series,
        note="" if better == "unknown" else f"{better} is better",
        log=better == "lower" and curves.suits_log(series),
        width=2 * curves.WIDTH if large else curves.WIDTH,
        height=int(1.6 * curves.HEIGHT) if large else curves.HEIGHT,
    )


def _mean(own: Sequence[Sequence[tuple[int, float]]]) -> tuple[Point, ...]:
    """Where at least one run has a value: the mean, and the band where there are several."""
    every = sorted(point for curve in own for point in curve)
    points = []
    for images, group in groupby(every, key=lambda point: point[0]):
        values = [value for _, value in group]
        band = (min(values), max(values)) if len(values) > 1 else (None, None)
        points.append(Point(images, sum(values) / len(values), *band))
    return tuple(points)


def parameter_plots(search: SearchRow, better: str) -> dict[str, Markup]:
    """One plot a parameter: what each trial reached over the value it tried, the baseline as a line."""
    return {path: plot for path, allowed in search.space.items() if (plot := _plot(search, path, allowed, better))}


def _plot(search: SearchRow, path: str, allowed: Any, better: str) -> Markup:
    trials = [trial for trial in search.trials if trial.value is not None]
    if not trials:
        return Markup("")
    x_axis, labels = _parameter_axis(allowed)
    y_axis = _value_axis([trial.value for trial in trials if trial.value is not None], search.baseline, better)
    view = {"viewBox": f"0 0 {PLOT_WIDTH} {PLOT_HEIGHT}", "class": "chart scatter", "role": "img"}
    root = Element("svg", {**view, "aria-label": f"{path} against the result of {len(trials)} trials"})
    lines, ticks = SubElement(root, "g", {"class": "grid"}), SubElement(root, "g", {"class": "ticks"})
    for value in y_axis.ticks:
        y = f"{y_axis.place(value):.1f}"
        SubElement(lines, "line", {"x1": f"{x_axis.start}", "x2": f"{x_axis.end}", "y1": y, "y2": y})
        text = log_label(value) if y_axis.log else figure(value)
        SubElement(
            ticks, "text", {"x": f"{x_axis.start - 8}", "y": y, "text-anchor": "end", "dy": "0.32em"}
        ).text = text
    for place, text in labels:
        at = {"x": f"{x_axis.place(place):.1f}", "y": f"{y_axis.start + 17}", "text-anchor": "middle"}
        SubElement(ticks, "text", at).text = text
    if search.baseline is not None:
        _baseline(root, x_axis, y_axis.place(search.baseline))
    for trial in trials:
        _dot(root, trial, search, x_axis.place(_place_of(trial.values[path], allowed)), y_axis)
    return Markup(tostring(root, encoding="unicode"))  # noqa: S704 - every text in it was escaped by ElementTree


def _parameter_axis(allowed: Any) -> tuple[Axis, list[tuple[float, str]]]:
    """The axis of a range or of a list of choices, and its labels."""
    if isinstance(allowed, list):
        axis = Axis(-0.5, len(allowed) - 0.5, curves.LEFT, PLOT_WIDTH - curves.RIGHT)
        return axis, [(float(index), str(choice)[:14]) for index, choice in enumerate(allowed)]
    low, high, log = float(allowed["low"]), float(allowed["high"]), bool(allowed["log"])
    axis = Axis(low, high, curves.LEFT + 8, PLOT_WIDTH - curves.RIGHT - 8, log)
    ticks = curves.log_ticks(low, high) if log else curves.linear_ticks(low, high)
    return axis, [(tick, log_label(tick) if log else figure(tick)) for tick in ticks]


def _value_axis(values: Sequence[float], baseline: float | None, better: str) -> Axis:
    every = [*values, *([baseline] if baseline is not None else [])]
    low, high = min(every), max(every)
    log = better == "lower" and low > 0 and high / low > 20
    if low == high:
        low, high = low - abs(low) * 0.1 - 0.1, high + abs(high) * 0.1 + 0.1
    room = (high - low) * 0.06
    low, high = (low / 1.1, high * 1.1) if log else (low - room, high + room)
    ticks = curves.log_ticks(low, high) if log else curves.linear_ticks(low, high)
    return Axis(low, high, PLOT_HEIGHT - curves.BOTTOM, curves.TOP, log, ticks)


def _baseline(root: Element, x_axis: Axis, y: float) -> None:
    ends = {"x1": f"{x_axis.start}", "x2": f"{x_axis.end}", "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
    SubElement(root, "line", {"class": "level", **ends})
    beside = y - 6 if y > curves.TOP + 16 else y + 14
    at = {"class": "level-name", "x": f"{x_axis.end - 4}", "y": f"{beside:.1f}", "text-anchor": "end"}
    SubElement(root, "text", at).text = "baseline"


def _dot(root: Element, trial: TrialRow, search: SearchRow, x: float, y_axis: Axis) -> None:
    assert trial.value is not None
    is_best = trial.number == search.best
    place = {"cx": f"{x:.1f}", "cy": f"{y_axis.place(trial.value):.1f}", "r": "6.5" if is_best else "4.5"}
    dot = SubElement(root, "circle", {"class": f"series-1 {trial.state}{' best' if is_best else ''}", **place})
    values = ", ".join(f"{path.rpartition('.')[2]} {_short(value)}" for path, value in trial.values.items())
    SubElement(dot, "title").text = f"trial {trial.number}: {figure(trial.value)} with {values} ({trial.state})"


def _place_of(value: Any, allowed: Any) -> float:
    return float(allowed.index(value)) if isinstance(allowed, list) else float(value)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def legend(names: Sequence[str]) -> Mapping[str, int]:
    """Variant -> colour, counted from 1."""
    return {name: place for place, name in enumerate(names, start=1)}
