"""Studies at the command line, without a store: the plan, the runs, the comparison."""

import json

import pytest
import yaml
from typer.testing import CliRunner

import jobs.run
from jobs.errors import Interrupted
from jobs.spec.variants import StudyRun
from service import stopping
from service.cli import app
from tests.study_kit import TINY, StandIn, gamma_quality

STUDY = {
    "question": "Does R1 matter?",
    "ablate": {"recipe.r1.gamma": [0.1, 10]},
    "list": {"batch": {"training.batch": 8}},
    "seeds": 2,
}


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**TINY, "study": STUDY}, sort_keys=False))
    return path


@pytest.fixture
def trained(monkeypatch):
    """Training is a stand-in; what was trained."""
    stand_in = StandIn(gamma_quality)

    def run(loaded, around):
        job = loaded.job
        stand_in(StudyRun(job.name, job.seed, loaded, ""), around.out, around.watch, around.should_stop)

    monkeypatch.setattr(jobs.run, "run", run)
    monkeypatch.setattr(stopping, "listen", lambda: None)
    monkeypatch.setattr(stopping, "received", None)
    return stand_in.trained


def gankiln(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_plan_is_the_table_of_variants_and_the_cost(spec):
    printed = gankiln("check", spec).stdout
    for said in (
        "Does R1 matter?",
        "gamma-0.1",
        "recipe.r1.gamma = 10",
        "recipe.ema.half_life_images: 5000.0 -> 2500.0",
    ):
        assert said in printed
    assert "8 runs, 2,048 images in all" in printed
    plan = json.loads(gankiln("check", spec, "--json").stdout)
    assert plan["planned_runs"] == 8 and plan["planned_images"] == 2048 and len(plan["runs"]) == 8
    assert plan["primary"] == {"metric": "fd", "features": "random_conv", "better": "lower"}


def test_a_study_runs_and_is_compared(spec, trained, tmp_path):
    out = tmp_path / "out"
    done = gankiln("run", spec, "--out", out)
    assert done.exit_code == 0, done.output
    assert len(trained) == 8 and "8 of 8 runs" in done.stdout
    gankiln("run", spec, "--out", out)
    assert len(trained) == 8
    compared = gankiln("compare", out)
    assert "gamma-10" in compared.stdout and "study.html" in compared.stdout
    report = json.loads(gankiln("compare", out, "--json").stdout)
    assert report["complete"] and report["question"] == "Does R1 matter?"
    assert {path.name for path in out.iterdir()} >= {"study.html", "study.json", "study.md", "study.csv", "runs.csv"}


def test_a_stop_ends_the_study_between_or_inside_runs(spec, trained, monkeypatch, tmp_path):
    monkeypatch.setattr(stopping, "received", 15)
    stopped = gankiln("run", spec, "--out", tmp_path / "out")
    assert isinstance(stopped.exception, Interrupted) and trained == []


def test_what_is_no_study_cannot_be_compared(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no study" in str(gankiln("compare", tmp_path / "empty").exception)
