"""Which curves a report shows, from what a run said."""

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from jobs.report import curves, metrics, words
from jobs.report.curves import Chart, Point, Series
from jobs.report.history import History
from jobs.report.model import MetricRow, Modes, Report

Values = Sequence[tuple[int, float | None]]


class Drawn:
    """A chart and its drawing."""

    def __init__(self, chart: Chart) -> None:
        self.title = chart.title
        self.note = chart.note
        self.log = chart.log
        self.names = [series.name for series in chart.series]
        self.svg = Markup(curves.svg(chart))  # noqa: S704 - every text in it was escaped by ElementTree


def losses(history: History, report: Report) -> list[Drawn]:
    """One chart a loss; G and D together where a run calls them so."""
    return _charts(history.series("losses"), report)


def statistics(history: History, report: Report) -> list[Drawn]:
    """One chart a statistic."""
    return _charts(history.series("statistics"), report)


def speed(history: History, report: Report) -> list[Drawn]:
    """Images a second, the share of time spent waiting for data, memory."""
    scalars = {name: history.scalar(name) for name in ("images_per_second", "waiting_ratio", "memory_bytes")}
    return _charts({name: values for name, values in scalars.items() if values}, report)


def measured(report: Report) -> list[Drawn]:
    """One chart a metric and feature space that was measured more than once."""
    drawn = []
    for comparison in metrics.compare(report.metrics).values():
        row = comparison.any
        rows = [r for r in report.metrics if (r.metric, r.features) == (row.metric, row.features)]
        points = _measured_points(rows)
        if len(points) > 1:
            drawn.append(_measured_chart(row, points, comparison.sanity, report))
    return drawn


def _measured_points(rows: Iterable[MetricRow]) -> tuple[Point, ...]:
    """By images; the untrained generator is the point at 0."""
    points = {
        row.images or 0: Point(row.images or 0, row.value, row.interval_low, row.interval_high)
        for row in sorted(rows, key=lambda row: row.label == "trained")
        if row.label != "sanity" and row.value is not None
    }
    return tuple(points[images] for images in sorted(points))


def _measured_chart(row: MetricRow, points: tuple[Point, ...], sanity: MetricRow | None, report: Report) -> Drawn:
    known = metrics.meaning(row.metric)
    series = (Series(known.title, points, dots=len(points) <= 60),)
    levels = ((sanity.value, "real vs real"),) if sanity and sanity.value is not None else ()
    return Drawn(
        Chart(
            title=f"{known.title}, {row.features}" if row.features else known.title,
            series=series,
            marks=_resumes(report),
            levels=levels,
            note="" if known.better == "unknown" else f"{known.better} is better",
            log=known.better == "lower" and curves.suits_log(series) and all(level > 0 for level, _ in levels),
        )
    )


def _charts(named: dict[str, list[tuple[int, float | None]]], report: Report) -> list[Drawn]:
    groups: dict[str, list[str]] = {}
    for name in named:
        groups.setdefault(_group(name, named), []).append(name)
    charts = [_progress_chart(group, {name: named[name] for name in names}, report) for group, names in groups.items()]
    return [Drawn(chart) for chart in charts if chart.has_points()]


def _progress_chart(title: str, named: dict[str, list[tuple[int, float | None]]], report: Report) -> Chart:
    series = tuple(curves.line(name, values) for name, values in named.items())
    return Chart(words.title(title), series, marks=_resumes(report), log=curves.suits_log(series))


def _group(name: str, named: Iterable[str]) -> str:
    """The chart of the series `name`: the two adversaries share one, and so do `score_real` and `score_fake`."""
    if name.lower() in ("g", "d"):
        return "G and D"
    twin = name.replace("real", "fake") if "real" in name else name.replace("fake", "real")
    return name.replace("fake", "real").replace("real", "real and fake") if twin != name and twin in named else name


def _resumes(report: Report) -> tuple[tuple[float, str], ...]:
    return tuple(
        (float(attempt.from_images), f"resumed at {words.count(attempt.from_images)} images")
        for attempt in report.attempts[1:]
    )


def mode_map(modes: Modes | None) -> Markup:
    """One square a mode, darker where more samples fell, ringed where none did; rows by the first axis."""
    if modes is None or modes.counts is None:
        return Markup("")
    axes = modes.axes or (1, len(modes.counts))
    per_row, per_group = len(modes.counts) // axes[0], axes[-1]
    most = max(modes.counts) or 1
    cell, gap = 9, 5
    width = per_row * cell + (per_row // per_group - 1) * gap
    root = Element("svg", {"class": "modes", "viewBox": f"0 0 {width} {axes[0] * (cell + 3) - 3}", "role": "img"})
    root.set("aria-label", f"{modes.covered} of {modes.total} modes have samples")
    for mode, hits in enumerate(modes.counts):
        row, column = divmod(mode, per_row)
        level = 0 if hits == 0 else 1 + min(3, hits * 4 // (most + 1))
        place = {"x": str(column * cell + column // per_group * gap), "y": str(row * (cell + 3))}
        square = SubElement(
            root, "rect", {**place, "class": f"mode-{level}", "width": str(cell - 1), "height": str(cell - 1)}
        )
        SubElement(square, "title").text = f"mode {mode}: {words.plural(hits, 'sample')}"
    return Markup(tostring(root, encoding="unicode"))  # noqa: S704 - numbers only
