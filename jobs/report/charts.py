"""Which curves a report shows, from what a run said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from jobs.report import curves, metrics, words
from jobs.report.curves import Chart, Point, Series
from jobs.report.history import History
from jobs.report.metrics import Comparison, Key
from jobs.report.model import MetricRow, Modes, Report

FEW_POINTS = 40
"""Up to so many, each is a dot too."""
SMALL, LARGE = (curves.WIDTH, curves.HEIGHT), (520, 330)
ADVERSARIES = ("g", "d", "generator", "discriminator")
TITLES = {"adversaries": "Adversarial", "r1.penalty": "R1 penalty before its weight"}
NOTES = {
    "logit": "the discriminator's opinion: high is real",
    "sign": "1 or −1: the discriminator is always sure",
    "gradient": "norm",
}


class Drawn:
    """A chart and its drawing."""

    def __init__(self, chart: Chart) -> None:
        self.title = chart.title
        self.note = chart.note
        self.log = chart.log
        self.names = [series.name for series in chart.series]
        self.svg = Markup(curves.svg(chart))  # noqa: S704 - every text in it was escaped by ElementTree


def losses(history: History, report: Report) -> list[Drawn]:
    """One chart a loss; the two adversaries share one."""
    return _charts(history.series("losses"), report)


def statistics(history: History, report: Report) -> list[Drawn]:
    """One chart a statistic; `logit.real` and `logit.fake` share one."""
    return _charts(history.series("statistics"), report)


def speed(history: History, report: Report) -> list[Drawn]:
    """Images a second, the share of time spent waiting for data, memory."""
    memory = [(images, value and value / 1e9) for images, value in history.scalar("memory_bytes")]
    named = {
        "Images per second": history.scalar("images_per_second"),
        "Share of time waiting for data": history.scalar("waiting_ratio"),
        "Peak memory in GB": memory,
    }
    charts = [
        Chart(name, (curves.line(name, values),), marks=_resumes(report), from_zero=True)
        for name, values in named.items()
    ]
    return [Drawn(chart) for chart in charts if chart.has_points()]


def measured(report: Report, opening: Key | None = None) -> dict[Key, Drawn]:
    """One chart a metric and feature space that was measured more than once; that of `opening` is larger."""
    drawn = {}
    for key, comparison in metrics.compare(report.metrics).items():
        points = _measured_points(row for row in report.metrics if (row.metric, row.features) == key)
        if len(points) > 1:
            drawn[key] = _measured_chart(comparison, points, report, LARGE if key == opening else SMALL)
    return drawn


def _measured_points(rows: Iterable[MetricRow]) -> tuple[Point, ...]:
    """By images; the untrained generator is the point at 0."""
    points = {
        row.images or 0: Point(row.images or 0, row.value, row.interval_low, row.interval_high)
        for row in sorted(rows, key=lambda row: row.label == metrics.TRAINED)
        if row.label in (metrics.TRAINED, metrics.UNTRAINED) and row.value is not None
    }
    return tuple(points[images] for images in sorted(points))


def _measured_chart(comparison: Comparison, points: tuple[Point, ...], report: Report, size: tuple[int, int]) -> Drawn:
    row, floor = comparison.any, comparison.sanity
    known = metrics.meaning(row.metric)
    series = (Series(known.title, points, dots=len(points) <= FEW_POINTS),)
    levels = ((floor.value, "real vs real"),) if floor and floor.value is not None else ()
    return Drawn(
        Chart(
            title=known.title,
            series=series,
            marks=_resumes(report),
            levels=levels,
            note="" if known.better == "unknown" else f"{known.better} is better",
            log=known.better == "lower" and curves.suits_log(series) and all(level > 0 for level, _ in levels),
            width=size[0],
            height=size[1],
        )
    )


def _charts(named: Mapping[str, Sequence[tuple[int, float | None]]], report: Report) -> list[Drawn]:
    groups: dict[str, dict[str, Series]] = {}
    for name, values in named.items():
        group, within = _group(name)
        groups.setdefault(group, {})[name] = curves.line(within, values)
    charts = [_progress_chart(group, series, report) for group, series in groups.items()]
    return [Drawn(chart) for chart in charts if chart.has_points()]


def _progress_chart(group: str, series: Mapping[str, Series], report: Report) -> Chart:
    lines = tuple(replace(line, dots=len(line.points) <= FEW_POINTS) for line in series.values())
    title = group if len(lines) > 1 else next(iter(series))
    return Chart(
        TITLES.get(title) or words.title(title),
        lines,
        marks=_resumes(report),
        note=NOTES.get(group, ""),
        log=curves.suits_log(lines),
    )


def _group(name: str) -> tuple[str, str]:
    """The chart of a series, and its name in it: `logit.real` is `real` in `logit`; the adversaries share a chart."""
    if name.lower() in ADVERSARIES:
        return "adversaries", name
    group, dot, within = name.partition(".")
    return (group, within) if dot else (name, name)


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
    cell, gap = 10, 6
    width = per_row * cell + (per_row // per_group - 1) * gap
    view = {"viewBox": f"0 0 {width} {axes[0] * (cell + 3) - 3}", "style": f"max-width: {width * 2}px"}
    root = Element("svg", {"class": "modes", "role": "img", **view})
    root.set("aria-label", f"{modes.covered} of {modes.total} modes have samples")
    for mode, hits in enumerate(modes.counts):
        row, column = divmod(mode, per_row)
        level = 0 if hits == 0 else 1 + min(3, hits * 4 // (most + 1))
        place = {"x": f"{column * cell + column // per_group * gap + 0.5}", "y": f"{row * (cell + 3) + 0.5}"}
        square = SubElement(
            root, "rect", {**place, "class": f"mode-{level}", "width": str(cell - 2), "height": str(cell - 2)}
        )
        SubElement(square, "title").text = f"mode {mode}: {words.plural(hits, 'sample')}"
    return Markup(tostring(root, encoding="unicode"))  # noqa: S704 - numbers only
