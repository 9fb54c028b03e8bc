"""The queue's commands: what they print for people and for programs, and what they exit with."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from jobs.errors import SpecError
from service import cli, supervisor
from service.queue import JobNotFound, NotPossible
from service.settings import SettingsError
from service.store import StoreRefused
from tests.worker_kit import Station, spec_text


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.05)


@pytest.fixture
def station(tmp_path):
    return Station(tmp_path)


@pytest.fixture
def gankiln(station):
    def run(*arguments, code=0, raises=None):
        store = () if arguments[0] == "health" else ("--store", str(station.store.root))
        result = CliRunner().invoke(cli.app, [*arguments, *store])
        if raises:
            assert isinstance(result.exception, raises), result.output
            return str(result.exception)
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    return run


def _write(tmp_path, name="job", **spec):
    path = tmp_path / f"{name}.yaml"
    path.write_text(spec_text(name=name, **spec))
    return str(path)


def test_submit_work_status_why_logs_results(station, gankiln, tmp_path):
    job = json.loads(gankiln("submit", _write(tmp_path, "faces"), "--json"))[0]["id"]
    assert "inbox" in gankiln("why", job)
    assert "1 in the inbox" in gankiln("status")
    station.work()
    assert "succeeded" in gankiln("status")
    status = json.loads(gankiln("status", "faces", "--json"))
    assert status["state"]["status"] == "succeeded"
    assert [entry["kind"] for entry in status["history"]] == ["submit", "claim", "finish"]
    assert status["heartbeat"]["progress"]["images"] == 200
    assert "It succeeded in attempt 1." in gankiln("why", "faces")
    assert gankiln("logs", "faces").splitlines()[0] == "step 1"
    assert gankiln("logs", "faces", "--attempt", "1", "--follow").splitlines()[-1] == "step 20"
    out = tmp_path / "out"
    printed = json.loads(gankiln("results", "faces", "--out", str(out), "--json"))
    assert str(out / "report.json") in printed["files"]
    assert json.loads((out / "report.json").read_text())["images"] == 200


def test_a_wrong_spec_is_refused_before_anything_is_submitted(station, gankiln, tmp_path):
    good = _write(tmp_path, "good")
    bad = tmp_path / "bad.yaml"
    bad.write_text(spec_text("bad").replace("images: 200", "imges: 200"))
    error = gankiln("submit", good, str(bad), raises=SpecError)
    assert "did you mean: images" in error
    assert not list(station.store.list("inbox/"))


def test_cancel_and_retry_of_a_waiting_job(station, gankiln, tmp_path):
    job = json.loads(gankiln("submit", _write(tmp_path), "--json"))[0]["id"]
    station.queue.ingest(station.worker()._validate)
    assert "cancelled" in gankiln("cancel", job, "--message", "wrong seed")
    assert "wrong seed" in gankiln("why", job)
    assert "queued again" in gankiln("retry", job, "--from-checkpoint", "none")
    assert "paused" in gankiln("pause", job)
    assert "in the queue again" in gankiln("resume", job)
    assert json.loads(gankiln("priority", job, "99", "--json"))[0]["priority"] == 99


def test_results_of_a_running_job_are_its_last_checkpoint(station, gankiln, tmp_path):
    job = station.submit(steps=100, seconds=0.05)
    worker = station.worker()
    thread = station.start(worker)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        views = station.queue.status().running
        if views and views[0].heartbeat and views[0].heartbeat.progress.checkpoint:
            break
        time.sleep(0.1)
    assert "--partial" in gankiln("results", job, "--out", str(tmp_path / "out"), raises=NotPossible)
    gankiln("results", job, "--partial", "--out", str(tmp_path / "out"))
    assert list((tmp_path / "out/checkpoints").glob("*/state.pt"))
    assert "of 1,000" in gankiln("status")
    worker.drain()
    thread.join(20)


def test_a_result_that_somebody_changed_is_not_handed_out(station, gankiln, tmp_path):
    job = station.submit()
    station.work()
    station.store.put(f"results/job/{job}/report.html", b"<html>forged</html>")
    gankiln("results", job, "--out", str(tmp_path / "out"))  # the attempt still has what was committed
    assert (tmp_path / "out/report.html").read_text() == "<html>report</html>"
    prefix = station.state(job).attempt_prefix
    station.store.put(f"{prefix}/report.html", b"<html>forged</html>")
    gankiln("results", job, "--out", str(tmp_path / "again"), code=1)
    assert not (tmp_path / "again/report.html").exists()


def test_errors_are_sentences_with_the_exit_code_of_their_class(gankiln, monkeypatch):
    assert "there is no job of this id or name" in gankiln("why", "nothing", raises=JobNotFound)
    result = CliRunner().invoke(cli.app, ["status"])
    assert isinstance(result.exception, SettingsError)
    assert "GANKILN_STORE" in str(result.exception)
    result = CliRunner().invoke(cli.app, ["status", "--store", "ftp://host/x"])
    assert isinstance(result.exception, StoreRefused)


def test_a_jobs_output_cannot_drive_the_terminal(station, gankiln):
    station.submit(name="evil", say="\x1b]0;owned\x07\x1b[2J red")
    station.work()
    text = gankiln("logs", "evil")
    assert "\x1b" not in text and "\x07" not in text and "owned" in text


def test_when_no_log_came_to_the_store_its_last_lines_do(station, gankiln):
    job = station.submit(name="short", exit=67, say="the last words")
    station.work()
    for stat in list(station.store.list(f"jobs/{job}/attempts/")):
        if "/log/" in stat.key:
            station.store.delete(stat.key)
    assert "the last words" in gankiln("logs", "short")


def test_doctor_lists_every_setting(gankiln):
    assert "GANKILN_TTL_SECONDS" in gankiln("doctor", "--settings")


def _gankiln(*arguments, home, **options):
    environment = os.environ | {"GANKILN_HOME": str(home), "GANKILN_METRICS_PORT": "0", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_the_worker_command_leaves_when_idle(station):
    with _gankiln(
        "worker", "--store", str(station.store.root), "--exit-when-idle", home=station.settings.home
    ) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "nothing is left to do" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_worker_command_drains_on_a_signal(station, number):
    with _gankiln("worker", "--store", str(station.store.root), home=station.settings.home) as process:
        for line in process.stdout:
            if '"started"' in line:
                break
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "exit_drained" in output


def test_a_store_that_is_missing_is_one_sentence_and_a_non_zero_exit(tmp_path):
    file = tmp_path / "file"
    file.write_text("no directory")
    with _gankiln("worker", "--store", str(file / "below"), home=tmp_path) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 77
    assert "Traceback" not in output
    assert output.startswith("gankiln: ") and "hint:" in output


def test_help_takes_far_less_than_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "service", "--help"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
