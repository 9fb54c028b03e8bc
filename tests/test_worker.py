"""The worker end to end, on a directory, with a job that keeps the contract of `gankiln run` without torch."""

import fcntl
import json
import signal
import time
from contextlib import suppress

import pytest

from jobs.errors import DeviceError
from service import runner, supervisor
from service.queue import JobNotFound
from tests.worker_kit import Station, final_state, spec_text


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.05)


@pytest.fixture
def station(tmp_path):
    return Station(tmp_path)


def _until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(JobNotFound):  # it still lies in the inbox
            if found := condition():
                return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def test_a_job_from_the_inbox_to_its_results(station):
    job = station.submit(name="faces")
    station.work()
    assert station.state(job).status == "succeeded"
    files = station.result(job, "faces")
    assert json.loads(files["report.json"]) == {"images": 200, "state": final_state()}
    assert {"report.html", "events.jsonl", "spec.yaml", "checkpoints/000000200/state.pt"} <= set(files)
    assert sorted(path for path in files if path.startswith("samples/")) == [
        f"samples/{images:09d}.png" for images in (50, 100, 150, 200)
    ]
    assert station.said("attempt_ended")[-1]["code"] == "finished"
    assert not list((station.settings.runs_dir).iterdir())


def test_a_spec_dropped_by_hand_and_a_bad_one_beside_it(station):
    inbox = station.store.root / "inbox"
    inbox.mkdir(parents=True)
    (inbox / "good.yaml").write_text(spec_text("good"))
    (inbox / "bad.yaml").write_text(spec_text("bad").replace("training:", "traning:"))
    station.store.settle_seconds = 0.0
    station.work()
    assert [view.state.name for view in station.queue.status().finished] == ["good"]
    assert (station.store.root / "rejected/bad.yaml").exists()
    error = (station.store.root / "rejected/bad.error.txt").read_text()
    assert "bad.yaml:" in error and "did you mean: training" in error
    assert station.said("spec_refused")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01\x02\xff\xfe",
        b"a: &a [x, x]\nb: &b [*a, *a]\n",
        b"- just\n- a list\n",
        b"name: a\nname: b\n",
        b"x" * 300_000,
        spec_text("../../etc").encode(),
        spec_text("a/b").encode(),
    ],
)
def test_bad_input_is_moved_aside_with_its_reason_and_the_worker_goes_on(station, content):
    station.store.put("inbox/strange.yaml", content)
    job = station.submit(name="after")
    station.work()
    assert station.state(job).status == "succeeded"
    assert station.store.get("rejected/strange.error.txt").strip()


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [
        ({"exit": 67, "at": 7}, "failed", "diverged"),
        ({"exit": 65}, "failed", "data_missing"),
        ({"exit": 66}, "failed", "out_of_memory"),
        ({"exit": 70}, "dead", "too_many_failures"),
        ({"signal": signal.SIGSEGV, "at": 3}, "dead", "too_many_failures"),
    ],
)
def test_a_job_that_fails_ends_with_its_reason_and_last_lines(station, behaviour, status, reason):
    job = station.submit(**behaviour, say="the last words")
    station.work()
    state = station.state(job)
    assert (state.status, state.failure.reason) == (status, reason)
    assert "the last words" in state.failure.log_tail
    card = json.loads(station.store.get(f"dead/{job}.json"))
    assert card["next_command"]
    assert state.attempts == (3 if status == "dead" else 1)


def test_a_failed_job_leaves_its_last_checkpoint_and_what_it_had(station):
    job = station.submit(exit=67, at=12)
    station.work()
    files = station.result(job)
    assert "checkpoints/000000100/state.pt" in files and "events.jsonl" in files


def test_a_crash_in_the_middle_is_retried_from_the_last_checkpoint(station, tmp_path):
    job = station.submit(signal=signal.SIGKILL, at=12, once=str(tmp_path / "crashed"))
    station.work()
    state = station.state(job)
    assert (state.status, state.attempts, state.failures) == ("succeeded", 2, 1)
    files = station.result(job)
    assert json.loads(files["report.json"])["state"] == final_state()
    starts = [
        event["images"] for event in map(json.loads, files["events.jsonl"].splitlines()) if event["event"] == "start"
    ]
    assert starts == [0, 100]  # not from nothing


def test_drain_gives_the_job_back_with_a_checkpoint_and_the_next_worker_goes_on(station):
    job = station.submit(steps=30, seconds=0.1)
    worker = station.worker()
    thread = station.start(worker)
    _until(
        lambda: any(view.heartbeat and view.heartbeat.progress.images >= 70 for view in station.queue.status().running)
    )
    started = time.monotonic()
    worker.drain()
    thread.join(20)
    assert not thread.is_alive() and time.monotonic() - started < 8
    state = station.state(job)
    assert (state.status, state.interruptions, state.failures) == ("queued", 1, 0)
    assert state.resume_from and state.resume_from.images >= 70
    assert station.said("attempt_ended")[-1]["code"] == "drain"
    station.work()
    files = station.result(job)
    assert json.loads(files["report.json"])["state"] == final_state(30)
    assert station.state(job).attempts == 2


def test_cancel_stops_a_running_job_and_keeps_what_it_had(station):
    job = station.submit(steps=500, seconds=0.05)
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: station.queue.status().running)
    _until(lambda: (beat := station.queue.job(job).heartbeat) and beat.progress.images >= 60)  # past a checkpoint
    station.queue.cancel(job, "enough")
    _until(lambda: station.state(job).status == "cancelled")
    assert station.state(job).failure.message == "enough"
    assert any(path.startswith("checkpoints/") for path in station.result(job))
    worker.drain()
    thread.join(20)


def test_pause_and_resume(station):
    job = station.submit(steps=40, seconds=0.05)
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: station.store.stat(f"jobs/{job}/hb/00000002.json"))
    station.queue.pause(job)
    _until(lambda: station.state(job).status == "paused")
    time.sleep(0.5)
    assert station.state(job).status == "paused"
    station.queue.resume(job)
    _until(lambda: station.state(job).status == "succeeded")
    assert json.loads(station.result(job)["report.json"])["state"] == final_state(40)
    worker.drain()
    thread.join(20)


def test_a_job_that_hangs_is_killed_and_tried_again(station, tmp_path):
    queue = "  stall_seconds: 1"
    job = station.submit(queue=queue, hang=60, at=7, once=str(tmp_path / "hung"))
    station.work()
    state = station.state(job)
    assert (state.status, state.attempts) == ("succeeded", 2)
    assert station.said("attempt_ended")[0]["code"] == "stalled"


def test_limits_over_all_attempts(station):
    job = station.submit(queue="  total_seconds: 2", steps=1000, seconds=0.05)
    station.work()
    assert station.state(job).failure.reason == "total_timeout"


def test_priorities_then_order(station):
    low = station.submit(name="low", queue="  priority: 10", steps=1)
    high = station.submit(name="high", queue="  priority: 90", steps=1)
    station.work()
    assert [line["job_id"] for line in station.said("attempt_begins")] == [high, low]


def test_a_worker_without_gpus_leaves_jobs_that_need_one(station):
    text = spec_text("needs-gpu").replace("device: cpu", "device: cuda")
    job = station.queue.submit(text.encode(), "needs-gpu")
    other = station.submit(name="cpu")
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: station.state(other).status == "succeeded")
    worker.drain()
    thread.join(20)
    assert station.state(job).status == "queued"


def test_when_jobs_fail_fast_one_after_another_the_worker_stops_eating_them(tmp_path):
    station = Station(tmp_path, quarantine_failures=3, backoff_seconds=30.0, backoff_max_seconds=60.0)
    jobs = [station.submit(name=f"job{number}", exit=70) for number in range(6)]
    with pytest.raises(DeviceError, match="3 jobs in a row failed here"):
        station.work()
    assert sum(station.state(job).attempts for job in jobs) == 3


def test_a_quarantined_worker_stays_away_for_a_while_and_comes_back(tmp_path):
    station = Station(
        tmp_path, quarantine_failures=2, quarantine_seconds=2.0, backoff_seconds=4.0, backoff_max_seconds=4.0
    )
    jobs = [station.submit(name=f"job{number}", exit=70, once=str(tmp_path / f"once{number}")) for number in range(2)]
    worker = station.worker()
    worker._queue._random.uniform = lambda low, high: high  # a back-off of 4 s, not of 0 to 4 s
    thread = station.start(worker)
    _until(lambda: station.said("quarantined"))
    assert "failed here" in worker.unready() and worker.unhealthy() is None
    assert 'gankiln_worker_state{state="quarantined"} 1.0' in worker.observer.recorder.render()[0].decode()
    assert not any(station.state(job).status == "succeeded" for job in jobs)
    _until(lambda: all(station.state(job).status == "succeeded" for job in jobs))
    assert worker.unready() is None
    worker.drain()
    thread.join(20)


def test_a_bad_spec_or_diverging_job_is_no_reason_for_quarantine(station):
    for number in range(5):
        station.submit(name=f"job{number}", exit=67)
    station.work()
    assert not station.said("quarantined")


def test_data_in_the_store_is_found_by_its_relative_path(station):
    station.store.put("datasets/mine.zip", b"not really a zip")
    there = "{kind: zip, path: datasets/mine.zip, resolution: 32}"
    job = station.submit(data=there, read="inputs/datasets/mine.zip")
    station.submit(name="other", data="{kind: zip, path: datasets/none.zip, resolution: 32}")
    station.work()
    assert station.result(job)["read.txt"] == b"not really a zip"
    other = next(view.state for view in station.queue.status().finished if view.state.name == "other")
    assert other.failure.reason == "data_missing"
    assert "there is nothing at 'datasets/none.zip'" in other.failure.message


def test_a_worker_that_idles_leaves_after_its_time_and_not_before(station):
    started = time.monotonic()
    station.worker().run(exit_when_idle_seconds=1.0)
    assert 1.0 <= time.monotonic() - started < 10


def test_metrics_of_a_worked_off_queue(station):
    station.submit(name="one")
    station.submit(name="two", exit=67)
    worker = station.worker()
    worker.run(exit_when_idle_seconds=0)
    text = worker.observer.recorder.render()[0].decode()
    assert 'gankiln_claims_total{result="won"} 2.0' in text
    assert 'gankiln_attempts_total{class="none",outcome="finished"} 1.0' in text
    assert 'gankiln_attempts_total{class="job",outcome="failed"} 1.0' in text
    assert 'gankiln_job_duration_seconds_count{outcome="succeeded"} 1.0' in text
    assert "gankiln_job_info" not in text
    assert not station.said("telemetry_failed")


def test_a_worker_leaves_when_what_waits_is_not_for_its_machine(station):
    job = station.queue.submit(spec_text("needs-gpu").replace("device: cpu", "device: cuda").encode(), "needs-gpu")
    station.work()
    assert station.state(job).status == "queued"
    assert station.said("not_for_me")


@pytest.mark.parametrize(
    ("error", "reason"), [(RuntimeError("a bug of ours"), "internal_error"), (OSError(28, "full"), "store_error")]
)
def test_a_failure_of_the_worker_s_own_code_costs_an_attempt_and_not_the_worker(station, monkeypatch, error, reason):
    broken = station.submit(name="broken")
    attempts = []
    supervise = runner.Runner._supervise

    def fail(self, job, brought):
        if job.name == "broken":
            attempts.append(job)
            raise error
        return supervise(self, job, brought)

    monkeypatch.setattr(runner.Runner, "_supervise", fail)
    good = station.submit(name="good")
    station.work()
    assert len(attempts) == 3
    assert station.state(broken).status == "dead"
    assert station.said("attempt_ended")[0]["code"] in (reason, "finished")
    assert station.state(good).status == "succeeded"


def test_inputs_that_do_not_come_in_time_are_a_start_up_timeout(station, monkeypatch):
    worker = station.worker(settings=station.settings.model_copy(update={"max_failures": 1}))
    monkeypatch.setattr(worker._tools.inputs, "bring", lambda job, folder: time.sleep(5))
    job = station.submit(queue="  startup_seconds: 1")
    worker.run(exit_when_idle_seconds=0)
    assert station.said("attempt_ended")[0]["code"] == "startup_timeout"
    assert station.state(job).status == "dead"


def test_what_a_killed_worker_left_on_the_disk_is_removed_and_what_another_uses_is_not(station):
    runs = station.settings.runs_dir
    (runs / "abandoned/run").mkdir(parents=True)
    (runs / "in-use").mkdir()
    with (runs / "in-use/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert runner.remove_abandoned(runs) == 1
        assert [path.name for path in runs.iterdir()] == ["in-use"]
