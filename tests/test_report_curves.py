"""Line charts: nothing lost in thinning out, ticks that are round, drawings inside their frame, text that is text."""

import itertools
import json
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.report import curves
from jobs.report.curves import Chart, Point, Series

VALUES = st.floats(-1e30, 1e30, allow_nan=False)


def drawn(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(curves.svg(chart))


def places(root: ElementTree.Element) -> list[tuple[float, float]]:
    """All points of all paths."""
    paths = [path.get("d", "").strip("MZ") for path in root.iter("path")]
    pairs = [pair.split(" ") for path in paths for pair in path.split("L")]
    return [(float(x), float(y)) for x, y in pairs]


@given(st.lists(st.tuples(st.integers(0, 10**9), st.none() | VALUES), min_size=1, max_size=60), st.booleans())
def test_whatever_is_drawn_stays_inside_its_frame(values: list[tuple[int, float | None]], log: bool) -> None:
    chart = Chart("x", (curves.line("x", sorted(values, key=lambda value: value[0]), most=10),), log=log)
    if not chart.has_points():
        return
    for x, y in places(drawn(chart)):
        assert curves.LEFT <= x <= curves.WIDTH - curves.RIGHT
        assert curves.TOP <= y <= curves.HEIGHT - curves.BOTTOM


@given(st.lists(VALUES, min_size=241, max_size=2000))
def test_a_long_series_keeps_its_extremes(values: list[float]) -> None:
    thinned = curves.line("x", list(enumerate(values)))
    assert len(thinned.points) == curves.MOST_POINTS
    assert min(point.low for point in thinned.points if point.low is not None) == min(values)
    assert max(point.high for point in thinned.points if point.high is not None) == max(values)
    for point in thinned.points:
        assert point.y is not None
        assert point.low is not None
        assert point.high is not None
        span = max(abs(point.low), abs(point.high))
        assert point.low - span * 1e-9 <= point.y <= point.high + span * 1e-9


def test_a_short_series_is_drawn_as_it_is() -> None:
    assert curves.line("x", [(0, 1.0), (5, None)]).points == (Point(0, 1.0), Point(5, None))


def test_a_missing_value_interrupts_the_line() -> None:
    values = [(0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, 2.0)]
    lines = list(drawn(Chart("x", (curves.line("x", values),))).iter("path"))
    assert len(lines) == 2


@given(st.floats(-1e20, 1e20), st.floats(1e-12, 1e20))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    high = low + span
    if high - low < abs(low) * 1e-6:
        return
    ticks = curves.linear_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert all(low - span * 1e-6 <= tick <= high + span * 1e-6 for tick in ticks)
    assert all(a < b for a, b in itertools.pairwise(ticks))


@given(st.floats(1e-12, 1e12), st.floats(3, 1e12))
def test_log_ticks_are_few_and_inside(low: float, factor: float) -> None:
    ticks = curves.log_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 8
    assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in ticks)


def test_a_log_axis_puts_decades_at_equal_distances() -> None:
    root = drawn(Chart("x", (curves.line("x", [(0, 0.01), (1, 0.1), (2, 1.0), (3, 10.0)]),), log=True))
    heights = [y for _, y in places(root)]
    steps = [a - b for a, b in itertools.pairwise(heights)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.11)  # pixels are written to a tenth


@pytest.mark.parametrize(
    ("values", "suits"), [([1, 2, 3], False), ([0.001, 5], True), ([0.0, 5], False), ([-1, 5000], False), ([], False)]
)
def test_what_suits_a_log_axis(values: list[float], suits: bool) -> None:
    assert curves.suits_log([curves.line("x", list(enumerate(values)))]) is suits


def test_intervals_are_a_band_and_levels_and_marks_are_lines() -> None:
    points = (Point(0, 5.0, 4.0, 6.0), Point(10, 3.0, 2.5, 3.5))
    root = drawn(Chart("x", (Series("fd", points, dots=True),), marks=((5, "resumed"),), levels=((1.0, "real"),)))
    assert [path.get("class") for path in root.iter("path")] == ["band", "line"]
    assert len(list(root.iter("circle"))) == 2
    texts = [text for element in root.iter() if (text := element.text)]
    assert "resumed" in texts
    assert "real" in texts


def test_every_text_is_text() -> None:
    nasty = '<script>alert("1")</script>&\'"'
    chart = Chart(nasty, (curves.line(nasty, [(0, 1.0), (1, 2.0)]),), marks=((0, nasty),), levels=((1.0, nasty),))
    assert "<script" not in curves.svg(chart)
    root = drawn(chart)
    assert json.loads(root.attrib["data-chart"])["series"][0]["name"] == nasty
    assert nasty in root.attrib["aria-label"]


def test_the_page_is_told_the_values_and_where_they_lie() -> None:
    data = json.loads(
        drawn(Chart("x", (curves.line("g", [(0, 1.23456), (100, None), (200, 2.0)]),))).attrib["data-chart"]
    )
    assert data["x"] == [0, 200, curves.LEFT, curves.WIDTH - curves.RIGHT]
    assert data["series"] == [{"name": "g", "points": [[0, "1.235"], [200, "2"]]}]


def test_one_point_is_a_dot() -> None:
    root = drawn(Chart("x", (curves.line("g", [(0, 3.0)]),)))
    assert len(list(root.iter("circle"))) == 1
    assert all(math.isfinite(value) for place in places(root) for value in place)
