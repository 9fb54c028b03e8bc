"""Line charts as inline SVG: axes, ticks, a log scale, bands, marks. No library, no network, styled by the page.

A chart is data first: its numbers stand in `data-chart` for the page's script, which shows them under the pointer.
Colours and fonts come from the page's style sheet (classes, `--series-N`), so light and dark follow the reader.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from xml.etree.ElementTree import Element, SubElement, tostring

from jobs.report.words import axis_labels, figure, log_label

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 24
MOST_POINTS = 240
"""A longer series becomes this many buckets, each with its mean and its range."""
MOST_SERIES = 6
"""The style sheet has this many colours."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value, or the mean of a bucket with its range, or a measurement with its interval."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """A named line."""

    name: str
    points: tuple[Point, ...]
    dots: bool = False
    colour: int | None = None
    """Counted from 1; by default the place among the series."""
    faint: bool = False
    """Drawn thin, and not named: one of many behind their mean."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw. `marks` are vertical lines (x, label), `levels` horizontal ones (y, label)."""

    title: str
    series: tuple[Series, ...]
    marks: tuple[tuple[float, str], ...] = ()
    levels: tuple[tuple[float, str], ...] = ()
    note: str = ""
    log: bool = False
    from_zero: bool = False
    width: int = WIDTH
    height: int = HEIGHT

    def has_points(self) -> bool:
        """Whether there is a line to draw."""
        return any(point.y is not None for line in self.series for point in line.points)


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values on a range of pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: tuple[float, ...] = field(default=())

    def place(self, value: float) -> float:
        """The pixel of `value`, kept inside the axis."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        low, high = scale(self.low), scale(self.high)
        share = (scale(max(value, self.low) if self.log else value) - low) / (high - low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def line(name: str, values: Sequence[tuple[float, float | None]], *, most: int = MOST_POINTS) -> Series:
    """(x, y) values as a series; more than `most` become buckets of mean and range, so that no spike is lost."""
    if len(values) <= most:
        return Series(name, tuple(Point(x, y) for x, y in values))
    edges = [round(index * len(values) / most) for index in range(most + 1)]
    return Series(name, tuple(_bucket(values[a:b]) for a, b in pairwise(edges)))


def suits_log(series: Sequence[Series]) -> bool:
    """Whether the values are all positive and span more than two orders of magnitude."""
    values = [point.y for line in series for point in line.points if point.y is not None]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 100


def svg(chart: Chart) -> str:
    """`chart` as an <svg> element; all text in it is escaped."""
    x_axis, y_axis = _axes(chart)
    root = Element(
        "svg",
        {
            "class": "chart",
            "viewBox": f"0 0 {chart.width} {chart.height}",
            "role": "img",
            "aria-label": _described(chart),
            "data-chart": _data(chart, x_axis),
        },
    )
    whole_height = {"y1": _text(y_axis.end), "y2": _text(y_axis.start)}
    _grid(root, x_axis, y_axis)
    for x, label in chart.marks:
        place = _text(x_axis.place(x))
        mark = SubElement(root, "line", {"class": "mark", "x1": place, "x2": place, **whole_height})
        SubElement(mark, "title").text = label
    for index, series in enumerate(chart.series):
        _draw(root, series, series.colour or index % MOST_SERIES + 1, x_axis, y_axis)
    for y, label in chart.levels:
        _level(root, x_axis, y_axis.place(y), label)
    SubElement(root, "line", {"class": "cursor", "visibility": "hidden", **whole_height})
    return tostring(root, encoding="unicode")


def linear_ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """At most `most` + 1 round values in [low, high], spaced by 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    decimals = 1 - math.floor(math.log10(step))
    first = math.ceil(low / step - 1e-9)
    return tuple(round(index * step, decimals) for index in range(first, math.floor(high / step + 1e-9) + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Powers of ten in [low, high]; with 2 and 5 between them where there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if len(decades) > 4 else (1, 2, 5) if len(decades) <= 2 else (1, 3)
    skip = max(1, len(decades) // 5)
    ticks = (factor * 10.0**decade for decade in decades[::skip] for factor in factors)
    return tuple(tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9))


def _bucket(values: Sequence[tuple[float, float | None]]) -> Point:
    x = values[len(values) // 2][0]
    known = [y for _, y in values if y is not None]
    if not known:
        return Point(x, None)
    return Point(x, sum(known) / len(known), min(known), max(known))


def _axes(chart: Chart) -> tuple[Axis, Axis]:
    points = [point for series in chart.series for point in series.points if point.y is not None]
    x_low, x_high = _widened(min(0.0, *(point.x for point in points)), max(point.x for point in points))
    bounds = [bound for point in points for bound in (point.y, point.low, point.high) if bound is not None]
    bounds += [level for level, _ in chart.levels]
    positive = [bound for bound in bounds if bound > 0]
    log = chart.log and bool(positive)
    y_low, y_high = _widened(min(positive if log else bounds), max(bounds))
    if chart.from_zero:
        y_low = min(0.0, y_low)
    y_low, y_high = (y_low / 1.15, y_high * 1.15) if log else _with_room(y_low, y_high)
    return (
        Axis(x_low, x_high, LEFT, chart.width - RIGHT, ticks=linear_ticks(x_low, x_high)),
        Axis(
            y_low,
            y_high,
            chart.height - BOTTOM,
            TOP,
            log,
            log_ticks(y_low, y_high) if log else linear_ticks(y_low, y_high),
        ),
    )


def _widened(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return low, high
    return (low - 0.5, high + 0.5) if low == 0 else (low - abs(low) * 0.1, high + abs(high) * 0.1)


def _with_room(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.05
    return (0.0 if 0 <= low <= room * 4 else low - room), high + room


def _grid(root: Element, x_axis: Axis, y_axis: Axis) -> None:
    lines = SubElement(root, "g", {"class": "grid"})
    labels = SubElement(root, "g", {"class": "ticks"})
    whole_width = {"x1": _text(x_axis.start), "x2": _text(x_axis.end)}
    for tick, text in zip(y_axis.ticks, _labels(y_axis), strict=True):
        y = _text(y_axis.place(tick))
        SubElement(lines, "line", {**whole_width, "y1": y, "y2": y})
        place = {"x": _text(x_axis.start - 8), "y": y, "text-anchor": "end", "dy": "0.32em"}
        SubElement(labels, "text", place).text = text
    for tick, text in zip(x_axis.ticks, _labels(x_axis), strict=True):
        place = {"x": _text(x_axis.place(tick)), "y": _text(y_axis.start + 17), "text-anchor": "middle"}
        SubElement(labels, "text", place).text = text
    base = _text(y_axis.start)
    SubElement(root, "line", {"class": "axis", **whole_width, "y1": base, "y2": base})


def _labels(axis: Axis) -> list[str]:
    return [log_label(tick) for tick in axis.ticks] if axis.log else axis_labels(axis.ticks)


def _level(root: Element, x_axis: Axis, y: float, label: str) -> None:
    ends = {"x1": _text(x_axis.start), "x2": _text(x_axis.end), "y1": _text(y), "y2": _text(y)}
    SubElement(root, "line", {"class": "level", **ends})
    beside = y - 6 if y > TOP + 16 else y + 14
    SubElement(root, "text", {"class": "level-name", "x": _text(x_axis.start + 4), "y": _text(beside)}).text = label


def _draw(root: Element, series: Series, colour: int, x_axis: Axis, y_axis: Axis) -> None:
    drawing = SubElement(root, "g", {"class": f"series series-{colour}{' faint' if series.faint else ''}"})
    for run in _runs(series.points):
        placed = [(x_axis.place(point.x), point) for point in run]
        if any(point.low is not None for point in run):
            upper = [(x, y_axis.place(_or(point.high, point.y))) for x, point in placed]
            lower = [(x, y_axis.place(_or(point.low, point.y))) for x, point in reversed(placed)]
            SubElement(drawing, "path", {"class": "band", "d": _path([*upper, *lower]) + "Z"})
        SubElement(
            drawing, "path", {"class": "line", "d": _path([(x, y_axis.place(_or(point.y, 0))) for x, point in placed])}
        )
        for x, point in placed if series.dots or len(placed) == 1 else ():
            SubElement(drawing, "circle", {"cx": _text(x), "cy": _text(y_axis.place(_or(point.y, 0))), "r": "3.2"})


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """Stretches without a gap: a missing value interrupts the line."""
    return [list(run) for known, run in groupby(points, lambda point: point.y is not None) if known]


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_text(x)} {_text(y)}" for x, y in places)


def _data(chart: Chart, x_axis: Axis) -> str:
    """What the page's script needs to say the values under the pointer."""
    return json.dumps(
        {
            "x": [x_axis.low, x_axis.high, x_axis.start, x_axis.end],
            "width": chart.width,
            "series": [
                {
                    "name": series.name,
                    "points": [[point.x, figure(point.y, 4)] for point in series.points if point.y is not None],
                }
                for series in chart.series
                if not series.faint
            ],
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _described(chart: Chart) -> str:
    said = []
    for series in (series for series in chart.series if not series.faint):
        known = [point.y for point in series.points if point.y is not None]
        if known:
            said.append(f"{series.name} from {figure(known[0])} to {figure(known[-1])}")
    return f"{chart.title} over images shown: {'; '.join(said)}"


def _or(value: float | None, other: float | None) -> float:
    chosen = other if value is None else value
    return 0.0 if chosen is None else chosen


def _text(pixel: float) -> str:
    return f"{pixel:.1f}".removesuffix(".0")
