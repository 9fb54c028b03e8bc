"""Recall against modes that are known to be missing."""

import pytest

from jobs.calibration.recall import DROPPED, Row, measure, table
from jobs.evaluation.features import Places


def test_recall_falls_with_the_modes_that_are_dropped_and_the_truth_is_exact(tmp_path):
    rows = list(measure(["pixels"], 32, 256, 0, Places(tmp_path)))
    assert [row.dropped for row in rows] == list(DROPPED)
    assert [row.truth for row in rows] == [1 - share for share in DROPPED]  # modes are equally frequent
    assert rows[0].recall > rows[-1].recall and rows[0].coverage > rows[-1].coverage
    assert table(rows).count("\n") == 3


def test_the_table_averages_over_seeds():
    rows = [Row("pixels", share, 1 - share, value, 0.5) for value in (0.4, 0.6) for share in DROPPED]
    line = table(rows).splitlines()[-1]
    error = sum(abs(value - (1 - share)) for value in (0.4, 0.6) for share in DROPPED) / 8
    assert line.startswith("| pixels | 0.500 | 0.500 |") and f"| {error:.3f} |" in line
    assert error == pytest.approx(0.275)
