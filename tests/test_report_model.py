"""report.json: the promised fields, plain data, no number that JSON cannot hold."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.report.model import MetricRow, Report, ReportFacts, write_atomically
from tests.fake_run import facts, write_run

PROMISED = {
    "name",
    "recipe",
    "seed",
    "images",
    "seconds",
    "images_per_second",
    "device",
    "metrics",
    "verdicts",
    "effective",
    "attempts",
}
MINIMAL = {"name": "a", "recipe": "stylegan2", "seed": 0, "images": 0, "seconds": 0.0, "device": "cpu"}


def report(**changes: Any) -> Report:
    return Report(**{**MINIMAL, "written": 1.0, **changes})


def strictly(path: Path) -> Any:
    """JSON as a strict reader takes it: NaN and Infinity are errors."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_report_json_has_every_promised_field(tmp_path: Path) -> None:
    from jobs.report import write_report

    write_report(write_run(tmp_path), facts())
    said = strictly(tmp_path / "report.json")
    assert set(said) >= PROMISED
    assert set(said["metrics"][0]) >= {"metric", "features", "value", "images", "samples"}
    assert set(said["verdicts"][0]) == {
        "detector", "verdict", "value", "threshold", "images", "message", "hint", "evidence",
    }  # fmt: skip
    assert said["effective"]["parameters"] == {"G": 1_204_211, "D": 1_118_530}
    assert said["effective"]["precision"] == "fp32"
    assert said["effective"]["accumulation"] == 1
    assert [attempt["from_images"] for attempt in said["attempts"]] == [0, 90_000]


def test_a_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = report(**facts().model_dump())
    written.write_json(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == written


def test_a_value_that_is_not_finite_becomes_null_and_is_named(tmp_path: Path) -> None:
    made = report(
        metrics=[{"metric": "fd", "features": "pixels", "value": math.nan, "interval_low": -math.inf, "note": "few"}],
        effective={"r1": {"gamma": math.inf}, "betas": [0.0, math.nan]},
        images_per_second=math.nan,
    )
    made.write_json(tmp_path / "report.json")
    said = strictly(tmp_path / "report.json")
    assert said["metrics"][0]["value"] is None
    assert said["metrics"][0]["note"] == "few; value was nan; interval_low was -inf"
    assert said["effective"] == {"r1": {"gamma": None}, "betas": [0.0, None]}
    assert said["non_finite"] == {
        "images_per_second": "nan",
        "effective.r1.gamma": "inf",
        "effective.betas[1]": "nan",
    }
    assert Report.load(tmp_path / "report.json") == made


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    )
)
def test_whatever_is_in_force_can_be_written(value: Any) -> None:
    said = report(effective={"value": value}).model_dump(mode="json")
    json.dumps(said, allow_nan=False)


def test_what_runs_hand_over_becomes_plain() -> None:
    class Skipped(NamedTuple):
        name: str
        reason: str

    @dataclass(frozen=True)
    class Derived:
        path: str
        value: Any
        formula: str

    made = report(
        derived=(Derived("r1.gamma", np.float32(0.5), "half"),),
        data={"kind": "folder", "images": np.int64(3), "skipped": [Skipped("a.png", "torn")]},
        effective={"path": Path("x"), "scale": np.float64(2)},
    )
    assert (made.derived[0].path, made.derived[0].value) == ("r1.gamma", 0.5)
    assert made.data is not None
    assert made.data.images == 3
    assert made.data.skipped[0].reason == "torn"
    assert made.effective == {"path": "x", "scale": 2.0}


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="sede"):
        ReportFacts.model_validate({**MINIMAL, "sede": 3})
    with pytest.raises(ValidationError, match="verdict"):
        report(verdicts=[{"detector": "collapse", "verdict": "bad"}])


def test_a_metric_row_needs_a_value_even_if_it_is_none() -> None:
    with pytest.raises(ValidationError, match="value"):
        MetricRow.model_validate({"metric": "fd"})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
