"""The kept tables of `python -m jobs.calibration`: limits are what they say, and every detector has found a failure."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.calibration import confusion, replay
from jobs.calibration.planted import PLANTED, Planted
from jobs.calibration.runs import IMAGES, Place, healthy_spec
from jobs.data import ImageBatch
from jobs.diagnosis.detector import Detector, Limit
from jobs.diagnosis.table import COMMON
from jobs.events import EventLog
from jobs.training.recipe import Known

EXAMPLES = Path("jobs/examples")


def kept(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((EXAMPLES / f"diagnosis-{name}.json").read_text())
    return table


RANGES = {row["detector"]: row for row in kept("calibration")["rows"]}
ROWS = {row["name"]: row for row in kept("confusion")["rows"]}
STATED = re.compile(r"the (\S+) that 99 % of healthy checks stay (below|above)")


@pytest.mark.parametrize("name", ["calibration", "confusion"])
def test_a_kept_table_says_how_it_came_about(name: str) -> None:
    table = kept(name)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", table["date"]) and table["torch"]
    assert table["command"].startswith("python -m jobs.calibration")
    assert len(table["sets"]) >= 3 and len(table["seeds"]) >= 3
    assert table["command"] in (EXAMPLES / f"diagnosis-{name}.md").read_text()


def limits(detector: Detector[Any]) -> list[Limit]:
    return [limit for limit in (detector.warning, detector.failure) if limit is not None]


@pytest.mark.parametrize("detector", COMMON, ids=lambda detector: detector.name)
def test_limits_are_the_kept_ones_and_lie_beyond_healthy_values(detector: Detector[Any]) -> None:
    row = RANGES[detector.name]
    assert row["failure"] == detector.failure.value and row["failures"] == 0
    assert row["warning"] == (detector.warning.value if detector.warning else None)
    sign = 1 if detector.bad == "above" else -1
    assert row["bad"] == detector.bad
    if row["checks"]:
        assert sign * row["worst"] <= sign * detector.failure.value
        assert all(sign * row["percentile_99"] <= sign * limit.value for limit in limits(detector))


@pytest.mark.parametrize("detector", COMMON, ids=lambda detector: detector.name)
def test_every_limit_has_an_origin_that_is_true(detector: Detector[Any]) -> None:
    """Of theory, or of the healthy runs: then it states their 99th percentile as the table has it."""
    row = RANGES[detector.name]
    for limit in limits(detector):
        if limit.origin.startswith("theory: "):
            continue
        assert limit.origin.startswith("calibrated: ")
        stated = STATED.search(limit.origin)
        assert stated is not None, limit.origin
        assert stated[2] == ("below" if detector.bad == "above" else "above")
        assert float(stated[1]) == float(f"{row['percentile_99']:.2g}")


def test_healthy_runs_raise_no_failure() -> None:
    healthy = [row for row in ROWS.values() if not row["expected"]]
    table = kept("confusion")
    assert len(healthy) == len(table["sets"]) * len(table["seeds"])
    for row in healthy:
        assert "failure" not in row["levels"].values(), row["name"]
        assert {"wiring", "collapse", "no_progress"} <= row["levels"].keys()


@pytest.mark.parametrize("detector", confusion.COLUMNS)
def test_every_detector_has_found_a_planted_failure(detector: str) -> None:
    planted = [row for row in ROWS.values() if detector in row["expected"]]
    assert planted
    for row in planted:
        assert row["levels"][detector] == "failure", row["name"]


def test_every_planted_failure_is_in_the_table() -> None:
    assert {planted.__name__ for planted in PLANTED} <= ROWS.keys()
    assert {planted.__name__: list(planted.expected) for planted in PLANTED}.items() <= {
        name: row["expected"] for name, row in ROWS.items()
    }.items()


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.__name__)
def test_every_failure_can_still_be_planted(planted: type[Planted], tmp_path: Path) -> None:
    """The kept table was made with the recipe of its day: what is planted must go on fitting into it."""
    torch.manual_seed(0)
    job = healthy_spec("modegrid", 0, Place(tmp_path)).job
    recipe = planted(job, Known(), "fp32", torch.device("cpu"))
    image_NCHW = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    for step in range(2):
        recipe.step(ImageBatch(image_NCHW, None), 16 * step)
    assert recipe.sample(4, 0).shape == (4, 3, 32, 32)


def test_a_leak_is_found_by_really_taking_memory() -> None:
    assert confusion.leak().found


def test_a_replay_judges_by_limit_grace_and_patience(tmp_path: Path) -> None:
    events = EventLog(tmp_path / "run" / "events.jsonl")
    for images, distance in ((800, 0.1), (IMAGES - 1600, 2.0), (IMAGES - 800, 2.0), (IMAGES, 0.1)):
        events.write("statistics", images=images, statistics={"no_progress": distance, "non_finite": 0.0})
    events.write("verdict", images=IMAGES, detector="non_finite", verdict="failure")
    said = replay.levels(Place(tmp_path), "run")
    assert said["no_progress"] == ["healthy", "warning", "failure", "healthy"]
    assert said["non_finite"] == ["healthy"] * 4 + ["failure"]
    assert replay.levels(Place(tmp_path), "run", IMAGES - 1600)["no_progress"] == ["failure", "healthy"]
