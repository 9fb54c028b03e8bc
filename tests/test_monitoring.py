"""Alerts and dashboards: each query parses and reads metrics that exist; each alert fires, waits and is explained.

tests/deploy/test_prometheus.py runs the same queries against a real Prometheus.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from service.telemetry.catalogue import METRICS
from service.telemetry.recorder import Recorder
from tests.monitoring import ALERTS, DASHBOARDS, RULES, panels, queries, selectors

ROOT = Path(__file__).parents[1]
CASES = ROOT / "tests" / "alerts.yaml"
TARGET_LABELS = {"instance", "job", "pod", "namespace", "Hostname", "gpu"}
"""Labels that a scrape adds."""
UNITS = {
    *("none", "short", "percent", "percentunit", "s", "h", "bytes", "decmbytes", "Bps", "reqps", "watt", "celsius"),
}
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
LABELS = {
    f"{metric.name}{suffix}": {*metric.labels, *(("le",) if suffix == "_bucket" else ())}
    for metric in METRICS
    for suffix in SUFFIXES[metric.kind]
}


def promtool(*arguments, text=None):
    """Runs promtool; without it the test is skipped, or fails where CI is set."""
    if shutil.which("promtool") is None:
        message = "no promtool: install Prometheus"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True)


def test_promtool_accepts_the_rules():
    answer = promtool("check", "rules", RULES)
    assert answer.returncode == 0, answer.stderr


def test_every_alert_fires_when_it_should_and_is_silent_when_not():
    answer = promtool("test", "rules", CASES)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_promtool_likes_the_names_of_the_metrics():
    recorder = Recorder(METRICS)
    for metric in METRICS:
        labels = ["x"] * len(metric.labels)
        recorder.observe(metric, 1, *labels) if metric.kind == "histogram" else recorder.add(metric, 1, *labels)
    answer = promtool("check", "metrics", text=recorder.render()[0].decode())
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_case_that_fires_it_and_one_that_does_not(name):
    cases = [case["name"] for case in yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]]
    assert any(case.startswith(f"{name} fires ") for case in cases)
    assert any(case.startswith(f"{name} is silent ") for case in cases)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_where_to_read_on(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"RUNBOOKS.md#{name.lower()}"
    book = (ROOT / "helm" / "RUNBOOKS.md").read_text(encoding="utf-8")
    assert f"\n## {name}\n\n**{alert['labels']['severity']}.** " in book


def test_the_runbook_explains_no_alert_that_is_gone():
    book = (ROOT / "helm" / "RUNBOOKS.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (\w+)$", book, re.MULTILINE)) == ALERTS.keys()


def test_the_alerts_of_the_plan_are_there():
    wanted = {
        *("QueueStuck", "OldestJobTooOld", "NoWorkers", "HeartbeatStale", "TrainingStalled", "CheckpointOld"),
        *("UploadFailing", "StoreUnreachable", "DeadLetter", "TakeoverRate", "GpuIdleWhileTraining", "XidError"),
    }
    assert {f"Gankiln{name}" for name in wanted} <= ALERTS.keys()


@pytest.mark.parametrize(("where", "query"), queries(), ids=lambda value: value if "/" in value else "")
def test_a_query_parses_and_asks_for_metrics_and_labels_that_exist(where, query):
    for name, matched in selectors(query):
        if name.startswith("DCGM_FI_"):
            continue  # of NVIDIA's exporter
        assert name in LABELS, f"{where}: {name} is not in service/telemetry/catalogue.py"
        assert matched <= LABELS[name] | TARGET_LABELS, f"{where}: {name} has no labels {matched - LABELS[name]}"


def test_a_query_with_an_unknown_metric_would_be_found():
    assert selectors("sum(rate(no_such_total{a='b'}[5m])) / up") == [("no_such_total", {"a"}), ("up", set())]
    with pytest.raises(ValueError, match="parenthesis"):
        promql_parser.parse("sum(rate(x[5m])")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_complete(path):
    board = json.loads(path.read_text(encoding="utf-8"))
    assert board["uid"] == f"gankiln-{path.stem}"
    assert board["templating"]["list"][0]["type"] == "datasource"
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    titles = [(panel["title"]) for panel in panels(board)]
    assert len(titles) >= 6
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + n) for n in range(len(panel["targets"]))]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_within_the_grid_and_on_no_other(path):
    taken = set()
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_variable_of_a_dashboard_is_used_and_every_used_one_is_there(path):
    text = path.read_text(encoding="utf-8")
    names = {variable["name"] for variable in json.loads(text)["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
    assert names == used


def test_a_job_is_chosen_through_its_info_metric():
    board = json.loads((ROOT / "helm" / "dashboards" / "job.json").read_text(encoding="utf-8"))
    (variable,) = (variable for variable in board["templating"]["list"] if variable["name"] == "job_name")
    assert variable["query"]["query"] == "label_values(gankiln_job_info, job_name)"
    assert all(
        'gankiln_job_info{job_name=~"$job_name"}' in target["expr"]
        for panel in panels(board)
        for target in panel["targets"]
    )
