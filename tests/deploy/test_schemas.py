"""Custom resources and dashboards against schemas that npm carries: KEDA's, the Prometheus operator's, Grafana's."""

import copy
import json
import shutil
import subprocess

import pytest

from tests.deploy.tools import ROOT, program, run
from tests.monitoring import DASHBOARDS
from tests.test_chart import MATRIX, objects

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
KINDS = ("ScaledJob", "PodMonitor", "PrometheusRule")


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    """A folder with the packages of schemas/package.json."""
    folder = shutil.copytree(ROOT / "tests" / "deploy" / "schemas", tmp_path_factory.mktemp("npm") / "schemas")
    run(program("npm"), "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
    return folder


def _validate(folder, resources):
    (folder / "resources.json").write_text(json.dumps(resources))
    return subprocess.run(
        [program("node"), "resources.mjs", "resources.json"], cwd=folder, capture_output=True, text=True
    )


def _type_errors(folder, boards):
    """What TypeScript says of dashboards as values of Grafana's type Dashboard; it knows no data source's queries."""
    boards = copy.deepcopy(boards)
    for mark in (mark for board in boards for mark in board["annotations"]["list"]):
        del mark["target"]["expr"]
    lines = ['import { type Dashboard, ThresholdsMode } from "@grafana/schema";']
    lines += [f"export const board{number}: Dashboard = {json.dumps(board)};" for number, board in enumerate(boards)]
    text = "\n".join(lines).replace(
        '"mode": "absolute"', '"mode": ThresholdsMode.Absolute'
    )  # TypeScript wants the name
    (folder / "boards.ts").write_text(text)
    options = ("--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "boards.ts")
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    answer = subprocess.run([program("node"), compiler, *options], cwd=folder, capture_output=True, text=True)
    assert (answer.returncode == 0) == (answer.stdout == ""), answer.stdout + answer.stderr
    return answer.stdout


def test_custom_resources_follow_their_definitions(schemas):
    found = [resource for case in MATRIX for kind in KINDS for resource in objects(case, kind)]
    assert {resource["kind"] for resource in found} == set(KINDS)
    answer = _validate(schemas, found)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_wrong_custom_resource_is_found(schemas):
    (good,) = objects("scaledjob", "ScaledJob")
    bad = copy.deepcopy(good)
    bad["spec"]["maxReplicaCount"] = "eight"
    assert _validate(schemas, [bad]).returncode == 1


def test_dashboards_are_of_grafanas_type(schemas):
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]
    assert _type_errors(schemas, boards) == ""


def test_a_wrong_dashboard_is_found(schemas):
    board = json.loads(DASHBOARDS[0].read_text(encoding="utf-8"))
    board["panels"][0]["gridPos"]["w"] = "wide"
    assert "Type 'string' is not assignable to type 'number'" in _type_errors(schemas, [board])
