from dataclasses import replace

from jobs.evaluation.rows import MetricRow
from jobs.evaluation.trust import HALF, NOISE, REAL, trust

FD = MetricRow(metric="fd", features="pixels", value=1.0, images=0, samples=50, interval_low=0.5, interval_high=1.5)


def row(value: float, label: str, **changes) -> MetricRow:
    return replace(FD, value=value, interval_low=value - 0.5, interval_high=value + 0.5, label=label, **changes)


def test_silent_when_everything_can_be_told_apart() -> None:
    assert trust([row(1, REAL), row(90, NOISE), row(9, HALF)]) == []


def test_says_what_cannot_be_told_apart_with_both_numbers() -> None:
    (sentence,) = trust([row(1, REAL), row(90, NOISE), row(1.6, HALF)])
    assert sentence == (
        "fd in pixels cannot tell real images with half of their modes missing from other real images "
        "(1.6 against 1, 50 images): it says nothing here about mode loss."
    )
    assert "about quality" in trust([row(1, REAL), row(0.2, NOISE)])[0]


def test_compares_at_equal_counts_and_in_the_right_direction() -> None:
    few, many = row(5, REAL), row(1, REAL, samples=100)
    assert trust([many, few, row(9, HALF)]) == []
    assert len(trust([many, few, row(5.2, HALF)])) == 1
    coverage = [row(value, label, metric="coverage") for value, label in ((5, REAL), (1, HALF))]
    assert trust(coverage) == []
    assert len(trust([replace(coverage[0], value=1), coverage[1]])) == 1


def test_without_intervals_a_tenth_decides() -> None:
    plain = [
        replace(row(value, label), interval_low=None, interval_high=None) for value, label in ((1, REAL), (1.05, HALF))
    ]
    assert len(trust(plain)) == 1
    assert trust([plain[0], replace(plain[1], value=1.2)]) == []
