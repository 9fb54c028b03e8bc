"""The store goes away and comes back; claims are lost to others: the job's work is neither lost nor mixed."""

import json
import threading
import time
from random import Random

import pytest

from service import runner, supervisor
from service import worker as worker_module
from service.queue import Queue
from service.store import DirectoryStore, FullStore, StoreRefused, Unavailable
from tests.worker_kit import Station, final_state

REQUESTS = ("get", "read", "put", "create", "delete", "stat", "list", "copy", "upload", "download")


class Flaky:
    """A store that can be down: every request fails, or answers are lost after they took effect."""

    def __init__(self, store):
        self.store = store
        self.error = None
        self.lose_answers = False
        self.random = Random(0)
        self.answers = threading.Event()
        """Cleared: requests hang, as they do against a frozen server."""
        self.answers.set()

    def __getattr__(self, name):
        value = getattr(self.store, name)
        if name not in REQUESTS:
            return value

        def request(*args, **kwargs):
            if self.error:
                raise self.error
            self.answers.wait(60)
            answer = value(*args, **kwargs)
            if name == "list":
                answer = iter(list(answer))
            if self.lose_answers and name in ("create", "put") and self.random.random() < 0.15:
                raise Unavailable("the answer was lost")
            return answer

        return request


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(runner, "LONGEST_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(worker_module, "LONGEST_BACKOFF_SECONDS", 0.5)


@pytest.fixture
def station(tmp_path):
    store = Flaky(DirectoryStore(tmp_path / "store", durable=False))
    store.settle_seconds = 0.0
    return Station(tmp_path, store, ttl_seconds=5.0)


def _reader(station):
    """A person's view that the outage does not touch."""
    return Queue(station.store.store, worker_id="reader", settings=station.settings.queue_settings(polls_are_free=True))


def _until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found
    return found


def _runs(reader, images):
    views = reader.status().running
    return bool(views and views[0].heartbeat and views[0].heartbeat.progress.images >= images)


def test_a_job_goes_on_through_an_outage_and_ends_when_the_store_is_back(station):
    job = station.submit(steps=40, seconds=0.1)
    reader = _reader(station)
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: _runs(reader, 50))
    station.store.error = Unavailable("down")
    time.sleep(3.5)  # most of the job
    assert station.said("attempt_ended") == []
    station.store.error = None
    _until(lambda: reader.job(job).state.status == "succeeded")
    assert reader.job(job).state.attempts == 1
    _until(lambda: "report.json" in station.result(job))  # results are published after the commit
    assert json.loads(station.result(job)["report.json"])["state"] == final_state(40)
    worker.drain()
    thread.join(20)
    assert "gankiln_heartbeat_failures_total" in worker.observer.recorder.render()[0].decode()


@pytest.mark.parametrize("error", [Unavailable("down"), StoreRefused("no permission to put"), FullStore("full")])
def test_a_job_that_ends_while_the_store_is_away_waits_with_its_result(station, error):
    job = station.submit(steps=20, seconds=0.05)
    reader = _reader(station)
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: _runs(reader, 10))
    station.store.error = error
    time.sleep(3.0)
    station.store.error = None
    _until(lambda: reader.job(job).state.status == "succeeded")
    _until(lambda: "report.json" in station.result(job))  # results are published after the commit
    assert json.loads(station.result(job)["report.json"])["state"] == final_state()
    worker.drain()
    thread.join(20)


def test_answers_that_are_lost_change_nothing(station):
    jobs = [station.submit(name=f"job{number}", steps=10) for number in range(4)]
    reader = _reader(station)
    station.store.lose_answers = True
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: all(_status(reader, job) == "succeeded" for job in jobs), 60)
    station.store.lose_answers = False
    for number, job in enumerate(jobs):
        state = reader.job(job).state
        assert state.attempts == 1
        assert json.loads(station.result(job, f"job{number}")["report.json"])["state"] == final_state(10)
    worker.drain()
    thread.join(20)


def _status(reader, job):
    views = [view.state for view in reader.status(limit=100).finished]
    return next((state.status for state in views if state.id == job), None)


def test_cut_off_for_too_long_a_job_saves_itself_and_is_given_back(tmp_path):
    store = Flaky(DirectoryStore(tmp_path / "store", durable=False))
    station = Station(tmp_path, store, ttl_seconds=60.0, orphan_seconds=1.0)
    job = station.submit(steps=1000, seconds=0.05)
    reader = _reader(station)
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: _runs(reader, 50))
    station.store.error = Unavailable("down")
    time.sleep(2.5)
    station.store.error = None
    _until(lambda: station.said("attempt_ended"))
    assert station.said("attempt_ended")[0]["code"] == "store_outage"
    worker.drain()
    thread.join(20)
    state = reader.job(job).state
    assert state.interruptions >= 1 and state.resume_from.images >= 50


def test_a_worker_that_lost_its_claim_kills_the_job_and_deletes_nothing(tmp_path):
    """What SIGSTOP or a frozen machine does: the worker is silent, another takes over, then it wakes."""
    station = Station(tmp_path, Flaky(DirectoryStore(tmp_path / "store", durable=False)), ttl_seconds=1.5)
    job = station.submit(steps=70, seconds=0.1)
    reader = _reader(station)
    first = station.worker()
    thread = station.start(first)
    _until(lambda: _runs(reader, 100))
    heart = first._runner._heart
    beat, heart._beat = heart._beat, lambda: None  # silent, and alive
    second = station.worker()
    other = station.start(second)
    _until(lambda: reader.job(job).state.lost == 1)
    files = {stat.key for stat in station.store.store.list(f"jobs/{job}/attempts/00000002/")}
    heart._beat = beat
    _until(lambda: any(line["code"] == "fenced" for line in station.said("attempt_ended")))
    assert files <= {stat.key for stat in station.store.store.list(f"jobs/{job}/attempts/")} | {
        key for key in files if "/resume/" in key or "/checkpoints/" in key
    }
    _until(lambda: reader.job(job).state.status == "succeeded")
    state = reader.job(job).state
    assert (state.attempts, state.lost, state.failures) == (2, 1, 0)
    assert json.loads(station.result(job)["report.json"])["state"] == final_state(70)
    for worker in (first, second):
        worker.drain()
    thread.join(20)
    other.join(20)
    assert first.observer.recorder.render()[0].decode().count("gankiln_fenced_total 1.0") == 1


def test_a_store_that_says_no_while_running_is_a_back_off_and_a_metric(station):
    worker = station.worker()
    station.store.error = StoreRefused("s3://bucket: no permission to put")
    thread = station.start(worker)
    _until(lambda: station.said("store_error"))
    assert worker.unready() == "s3://bucket: no permission to put"
    assert worker.unhealthy() is None
    station.store.error = None
    _until(lambda: worker.unready() is None)
    assert 'gankiln_claims_total{result="error"} 0.0' not in worker.observer.recorder.render()[0].decode()
    worker.drain()
    thread.join(20)


def test_drain_is_quick_even_when_the_store_is_away(tmp_path):
    store = Flaky(DirectoryStore(tmp_path / "store", durable=False))
    station = Station(tmp_path, store, drain_seconds=2.0)
    station.submit(steps=1000, seconds=0.05)
    reader = _reader(station)
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: _runs(reader, 20))
    station.store.error = Unavailable("down")
    started = time.monotonic()
    worker.drain()
    thread.join(20)
    assert not thread.is_alive()
    assert time.monotonic() - started < 6.0
    assert station.said("end_not_told")


@pytest.mark.parametrize("ends", [False, True])
def test_drain_is_quick_even_when_the_store_hangs(tmp_path, ends):
    store = Flaky(DirectoryStore(tmp_path / "store", durable=False))
    station = Station(tmp_path, store, drain_seconds=2.0)
    station.submit(steps=20 if ends else 1000, seconds=0.05)
    reader = _reader(station)
    worker = station.worker()
    thread = station.start(worker)
    _until(lambda: _runs(reader, 20))
    station.store.answers.clear()
    time.sleep(2.0)  # with 20 steps, the job has ended meanwhile and its result waits
    started = time.monotonic()
    worker.drain()
    thread.join(20)
    assert not thread.is_alive()
    assert time.monotonic() - started < 7.0  # 2 s, and the threads that hang are waited for a little
    assert station.said("end_not_told")
    station.store.answers.set()


def test_drain_during_a_download_does_not_wait_for_it(station, monkeypatch):
    forever = threading.Event()
    worker = station.worker()
    monkeypatch.setattr(worker._tools.inputs, "bring", lambda job, folder: forever.wait(60))
    station.submit()
    thread = station.start(worker)
    _until(lambda: worker._runner)
    time.sleep(0.3)
    started = time.monotonic()
    worker.drain()
    thread.join(20)
    forever.set()
    assert time.monotonic() - started < 3.0
    assert _reader(station).status().waiting[0].state.interruptions == 1
