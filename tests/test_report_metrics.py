"""Which number opens a report, what it is compared with, and the words on trust."""

from typing import Any, get_args

import pytest

from jobs.report import metrics
from jobs.report.model import MetricRow
from jobs.spec.evaluation import MetricName

REAL, HALF, NOISE = "real against other real", "real against half of its modes", "real against noise"


def row(value: float | None, metric: str = "fd", features: str = "efficientnet_lite0", **more: Any) -> MetricRow:
    return MetricRow(**{"metric": metric, "features": features, "value": value, "images": 100, "samples": 1000, **more})


def untrained(value: float, **more: Any) -> MetricRow:
    return row(value, **{"label": "untrained", "images": 0, **more})


def test_the_most_telling_metric_and_feature_space_open_the_report() -> None:
    rows = [row(0.5, "recall"), row(9, "fd", "pixels"), row(7, "fd", "efficientnet_lite0"), row(1, "kid")]
    opening = metrics.headline(rows)
    assert opening is not None
    assert opening.now == rows[2]
    chosen = metrics.headline(rows, ("fd", "pixels"))
    assert chosen is not None
    assert chosen.now == rows[1]


def test_a_choice_that_was_not_measured_is_passed_over() -> None:
    opening = metrics.headline([row(7)], ("fid", "inception"))
    assert opening is not None
    assert opening.any.metric == "fd"


def test_nothing_measured_is_no_headline() -> None:
    assert metrics.headline([]) is None


def test_the_latest_value_counts_and_the_best_is_remembered() -> None:
    rows = [row(50, images=100), row(20, images=200), row(30, images=300)]
    opening = metrics.headline(rows)
    assert opening is not None
    assert (opening.now, opening.best) == (rows[2], rows[1])
    higher = metrics.headline([row(0.9, "recall", images=100), row(0.5, "recall", images=200)])
    assert higher is not None
    assert higher.best is not None
    assert higher.best.images == 100


def test_only_the_untrained_generator_so_far_is_a_headline_without_a_value() -> None:
    opening = metrics.headline([untrained(400)])
    assert opening is not None
    assert opening.now is None
    assert opening.gain() == ""


@pytest.mark.parametrize(
    ("metric", "now", "before", "said"),
    [
        ("fd", 38.4, 412.0, "11× lower than untrained"),
        ("fd", 400.0, 412.0, "hardly lower than untrained"),
        ("fd", 500.0, 412.0, "worse than the untrained generator"),
        ("fd", 412.0, 412.0, "the same as the untrained generator"),
        ("kid", -0.001, 0.4, "down from 0.4 untrained"),
        ("recall", 0.48, 0.0, "up from 0 untrained"),
        ("recall", 0.0, 0.48, "worse than the untrained generator"),
        ("lip_sync", 3.0, 9.0, "untrained: 9"),
    ],
)
def test_the_gain_in_words(metric: str, now: float, before: float, said: str) -> None:
    opening = metrics.headline([row(now, metric), untrained(before, metric=metric)])
    assert opening is not None
    assert opening.gain() == said


def test_a_difference_within_the_intervals_is_no_difference() -> None:
    now, before = row(75, interval_low=63, interval_high=87), untrained(64, interval_low=52, interval_high=76)
    opening = metrics.headline([now, before])
    assert opening is not None
    assert opening.gain() == "not clearly different from untrained"


@pytest.mark.parametrize(
    ("now", "before", "real", "closed"),
    [(10, 110, 10, 1), (60, 110, 10, 0.5), (200, 110, 10, 0), (5, 110, 10, 1), (5, 10, 10, None)],
)
def test_the_share_of_the_way(now: float, before: float, real: float, closed: float | None) -> None:
    opening = metrics.headline([row(now), untrained(before), row(real, label=REAL)])
    assert opening is not None
    assert opening.closed() == closed


def test_the_floor_is_the_one_on_about_as_many_samples() -> None:
    floors = [row(5, label=REAL, samples=5000), row(9, label=REAL, samples=900), row(20, label=REAL, samples=200)]
    opening = metrics.headline([row(30, samples=1000), *floors])
    assert opening is not None
    assert opening.sanity == floors[1]


def test_noise_and_half_modes_are_no_floor() -> None:
    opening = metrics.headline([row(30), row(500, label=NOISE), row(80, label=HALF)])
    assert opening is not None
    assert opening.sanity is None


def test_companions_share_the_feature_space_of_the_headline() -> None:
    rows = [row(7), row(0.5, "recall"), row(0.6, "precision"), row(0.1, "recall", "pixels"), untrained(0, metric="kid")]
    beside = metrics.companions(rows, metrics.headline(rows))
    assert [other.any.metric for other in beside] == ["precision", "recall"]


def test_the_table_has_a_line_a_label_and_count_in_order() -> None:
    rows = [
        row(500, label=NOISE),
        row(5, label=REAL, samples=900),
        row(9, label=REAL, samples=450),
        untrained(400),
        row(30, images=100),
        row(20, images=200),
        row(3, features="pixels"),
    ]
    (group,) = metrics.table(rows)
    assert group.spaces == ("efficientnet_lite0", "pixels")
    lines = group.lines
    assert [(line.label, line.samples) for line in lines] == [
        ("", 1000), ("untrained", 1000), (REAL, 900), (REAL, 450), (NOISE, 1000),
    ]  # fmt: skip
    assert [found.value if found else None for found in lines[0].rows] == [20, 3]
    assert lines[1].rows[1] is None


def trusted(*rows: MetricRow) -> str:
    return "\n".join(metrics.trust(rows))


def test_few_samples_and_other_features_are_said() -> None:
    assert "these are from 1,000" in trusted(row(30))
    assert "these are from" not in trusted(row(30, samples=50_000))
    assert "not FID" in trusted(row(30))
    assert "not FID" not in trusted(row(30, features="inception", metric="fid"))
    assert "No learned features" in trusted(row(30, features="pixels"))
    assert "No learned features" not in trusted(row(30, features="pixels"), row(30))


def test_a_feature_space_in_which_real_images_do_not_find_each_other_is_unfit() -> None:
    assert "Recall in pixels is unfit" in trusted(row(0.6, "recall", "pixels", label=REAL))
    assert "unfit" not in trusted(row(0.85, "recall", "pixels", label=REAL))


def test_better_than_real_is_suspicious_only_at_equal_counts_and_beyond_the_interval() -> None:
    assert "copies" in trusted(row(5, interval_high=6), row(10, label=REAL))
    assert "copies" not in trusted(row(5, interval_high=11), row(10, label=REAL))
    fewer = trusted(row(5, interval_high=6), row(10, label=REAL, samples=500))
    assert "copies" not in fewer
    assert "with as many, it would be lower" in fewer


def test_one_seed_is_one_seed() -> None:
    assert "One seed" in trusted(row(30))
    assert trusted() == ""


def test_what_it_was_measured_on() -> None:
    assert metrics.measured_on(row(1, real_samples=5000, resize="bicubic", seed=3)) == (
        "1,000 samples against 5,000 real images, resize bicubic, seed 3"
    )
    assert metrics.interval(row(1, interval_low=-0.1, interval_high=0.2)) == "−0.1 to 0.2"
    assert metrics.interval(row(1, interval_low=0.1)) == ""


def test_a_metric_has_columns_only_where_it_was_measured() -> None:
    fd, gap = metrics.table([row(5), row(6, features="pixels"), row(1, "spectrum_gap", "spectrum")])
    assert (fd.spaces, gap.spaces) == (("efficientnet_lite0", "pixels"), ("spectrum",))


def test_notes_are_said_once_where_all_agree() -> None:
    same = metrics.table([row(5, note="k = 3"), row(6, features="pixels", note="k = 3"), untrained(9, note="x")])
    assert same[0].notes == ("k = 3",)
    other = metrics.table([row(5, note="k = 3"), row(6, features="pixels")])
    assert other[0].notes == ("efficientnet_lite0: k = 3",)


def test_under_the_general_label_the_note_says_what_was_compared() -> None:
    rows = [row(5, label="sanity", note=REAL), row(80, label="sanity", note=HALF), row(30)]
    opening = metrics.headline(rows)
    assert opening is not None
    assert opening.sanity == rows[0]
    assert [line.label for line in metrics.table(rows)[0].lines] == ["", REAL, HALF]


def test_every_metric_that_can_be_asked_for_has_a_meaning() -> None:
    assert set(get_args(MetricName)) <= set(metrics.MEANINGS)
