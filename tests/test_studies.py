"""Studies on a store: workers share their runs, a killed one loses nothing, equal runs are run once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from jobs.study import StudyReport
from service import supervisor
from service.exporter import Exporter
from service.queue import JobNotFound, keys
from service.studies import Studies, cancel_any, open_studies, study_of
from service.telemetry import catalogue as c
from service.telemetry import logs
from service.validate import validator
from tests.study_kit import TINY
from tests.study_worker import study_command
from tests.worker_kit import Station

ABLATE = {"recipe.r1.gamma": [0.1, 10], "recipe.generator.architecture": "resnet"}
SEARCH = {"space": {"recipe.r1.gamma": {"low": 0.01, "high": 1000.0, "log": True}}, "trials": 4}


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.05)


@pytest.fixture
def station(tmp_path):
    return Station(tmp_path)


def spec(name="abl", **section):
    evaluation = {**TINY["evaluation"], "every_images": 64}
    return yaml.safe_dump({**TINY, "name": name, "evaluation": evaluation, "study": section}, sort_keys=False).encode()


def submit(station, name="abl", **section):
    return station.queue.submit(spec(name, **section), name)


def work(station):
    station.worker(command_line=study_command).run(exit_when_idle_seconds=0)


def start_worker(station, tmp_path, slot):
    with (tmp_path / f"worker{slot}.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.study_worker", str(station.store.root), str(tmp_path / f"home{slot}")],
            env=os.environ | {"GANKILN_WORKER": f"worker{slot}"},
            cwd=Path(__file__).parents[1],
            stdout=output,
            stderr=output,
        )


def table(station, study_id, name="abl"):
    """What was published, without what tells one place or time from another."""
    report = StudyReport.model_validate_json(station.store.get(f"results/{name}/{study_id}/study.json"))
    rows = report.model_dump(exclude={"written"})
    for row in rows["variants"]:
        row["runs"] = [{**run, "place": ""} for run in row["runs"]]
    return rows


def test_two_workers_one_of_them_killed_give_the_table_of_one(station, tmp_path):
    study_id = submit(station, ablate=ABLATE, seeds=3)
    workers = [start_worker(station, tmp_path, slot) for slot in range(2)]
    try:
        done = f"results/abl.baseline.s{TINY['seed']}/"
        deadline = time.monotonic() + 120
        while len([*station.store.list(keys.DONE)]) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers[0].kill()
        assert workers[1].wait(180) == 0, (tmp_path / "worker1.log").read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [*station.store.list(done)]
    shared = table(station, study_id)
    assert shared["complete"] and shared["runs"] == {"finished": 12}
    jobs = [station.queue.job(stat.key.rpartition("/")[2]) for stat in station.store.list(f"studies/{study_id}/runs/")]
    assert len({view.state.worker.split("-")[0] for view in jobs}) == 2
    alone = Station(tmp_path / "alone")
    other = submit(alone, ablate=ABLATE, seeds=3)
    work(alone)
    assert table(alone, other) == shared
    assert not [*station.store.list(keys.OPEN_STUDIES)]


def test_a_study_dropped_together_with_a_job_is_not_forgotten(station):
    """The worker that takes both in runs the job first, and does not leave before the study has ended."""
    station.queue.submit(yaml.safe_dump({**TINY, "name": "urgent", "queue": {"priority": 90}}).encode(), "urgent")
    study_id = submit(station, ablate={"recipe.r1.gamma": 10}, seeds=1)
    work(station)
    assert table(station, study_id)["complete"]


def test_equal_runs_of_another_study_or_job_are_not_run_again(station):
    job = yaml.safe_dump({**TINY, "seed": 5, "evaluation": {**TINY["evaluation"], "every_images": 64}}).encode()
    by_hand = station.queue.submit(job, "by-hand")
    work(station)
    first = submit(station, "first", ablate={"recipe.r1.gamma": 10}, seeds=[5])
    work(station)
    second = submit(station, "second", list={"ten": {"recipe.r1.gamma": 10}}, seeds=[5])
    work(station)
    assert len([*station.store.list("jobs/", limit=10_000)]) and len(_jobs(station)) == 2
    assert by_hand in _jobs(station)
    assert (
        table(station, first, "first")["variants"][1]["mean"] == table(station, second, "second")["variants"][1]["mean"]
    )


def _jobs(station):
    return {stat.key.split("/")[1] for stat in station.store.list("jobs/")}


def test_a_search_is_asked_trial_by_trial_by_whoever_works(station):
    study_id = submit(station, "search", search=SEARCH, seeds=2)
    work(station)
    report = table(station, study_id, "search")
    assert report["complete"] and [trial["state"] for trial in report["search"]["trials"]] == ["finished"] * 4
    assert len(report["variants"]) == 2 and report["variants"][1]["primary"]["seeds"] == 2
    again = Station(station.tmp_path / "again")
    other = submit(again, "search", search=SEARCH, seeds=2)
    work(again)
    assert table(again, other, "search") == report


def test_a_trial_is_pruned_while_it_runs(station):
    search = {**SEARCH, "space": {"recipe.r1.gamma": [10.0, 10.5, 1000.0]}, "trials": 5, "sampler": "random",
              "prune": "median", "startup_trials": 1}  # fmt: skip
    study_id = submit(station, "prune", search=search, seeds=2)
    work(station)
    report = table(station, study_id, "prune")
    assert report["complete"]
    pruned = [trial for trial in report["search"]["trials"] if trial["state"] == "pruned"]
    assert pruned and all(trial["images"] < 256 for trial in pruned)
    assert station.said("trial_pruned")


def test_status_and_metrics_know_the_study_while_it_runs(station):
    study_id = submit(station, ablate=ABLATE, seeds=2)
    assert open_studies(station.queue) == []
    station.queue.ingest(validator(station.settings.budgets))
    assert open_studies(station.queue)[0].answer == "No worker has looked at it yet."
    tended = Studies(station.queue).tend()
    assert tended.open == [study_id] and len(tended.created) == 8 and not tended.closed
    assert Studies(station.queue).tend().created == []
    lease = station.queue.claim()
    assert study_of(lease.state.source) == study_id
    (view,) = open_studies(station.queue)
    assert view.runs == {"waiting": 7, "running": 1} and view.answer.startswith("So far")
    exporter = Exporter(station.queue, logs.configure(format="json", redact=str, stream=station.lines))
    exporter.scan()
    assert exporter.recorder.value(c.STUDY_RUNS, "abl", "waiting") == 7
    assert exporter.recorder.value(c.STUDY_RUNS, "abl", "running") == 1


def test_a_cancelled_study_ends_with_its_jobs(station):
    study_id = submit(station, ablate=ABLATE, seeds=2)
    station.queue.ingest(validator(station.settings.budgets))
    Studies(station.queue).tend()
    states = cancel_any(station.queue, "abl", "enough")
    assert len(states) == 8 and {state.status for state in states} == {"cancelled"}
    assert Studies(station.queue).tend().closed == [study_id]
    with pytest.raises(JobNotFound):
        cancel_any(station.queue, "nothing", "")


def test_submitting_again_tries_what_failed_again(station):
    submit(station, ablate=ABLATE, seeds=1)
    station.queue.ingest(validator(station.settings.budgets))
    (first, *_), studies = Studies(station.queue).tend().created, Studies(station.queue)
    station.queue.cancel(first, "by mistake")
    submit(station, ablate=ABLATE, seeds=1)
    station.queue.ingest(validator(station.settings.budgets))
    assert first in studies.tend().created
    assert station.state(first).status == "queued"


def test_a_study_that_cannot_be_read_any_more_stops_nobody(station):
    said = []
    station.store.put("studies/open/" + "0" * 24, b"")
    station.store.put("studies/open/odd", b"")
    good = submit(station, ablate={"recipe.r1.gamma": 10}, seeds=1)
    station.queue.ingest(validator(station.settings.budgets))
    tended = Studies(station.queue, problem=lambda study, why: said.append((study, why))).tend()
    assert len(tended.created) == 2 and good in tended.open
    assert said == [("0" * 24, f"{'0' * 24}: there is no such study")]


def test_a_wrong_study_is_rejected_with_its_lines(station):
    station.queue.submit(spec(ablate={"recipe.r1.gama": 1}), "abl")
    report = station.queue.ingest(validator(station.settings.budgets))
    (reason,) = report.rejected.values()
    assert "study.ablate.recipe.r1.gama: unknown key" in reason


def test_compare_at_any_time_and_with_pictures(station, tmp_path):
    from typer.testing import CliRunner

    from service.cli import app

    submit(station, ablate={"recipe.r1.gamma": 10}, seeds=2)
    work(station)
    store = str(station.store.root)
    done = CliRunner().invoke(app, ["compare", "abl", "--store", store, "--out", str(tmp_path / "c"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["complete"]
    assert (tmp_path / "c/study.html").stat().st_size > 5000
    assert "abl" not in CliRunner().invoke(app, ["status", "--store", store]).stdout.split("Finished")[0]
