"""The queue's own metrics, without any worker."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.exporter import Exporter, priority_class
from service.queue import Failure, Progress
from service.store import MemoryStore, StoreRefused
from service.telemetry import catalogue as c
from service.telemetry import logs
from service.validate import validator
from tests.worker_kit import Station


@pytest.fixture
def station(tmp_path):
    return Station(tmp_path, MemoryStore(), ttl_seconds=0.6)


@pytest.fixture
def exporter(station):
    return Exporter(station.queue, logs.configure(format="json", redact=str, stream=station.lines))


def _ingest(station, *names, priority=50):
    jobs = [station.submit(name=name, queue=f"  priority: {priority}") for name in names]
    station.queue.ingest(validator(station.settings.budgets))
    return jobs


def _value(exporter, metric, *labels):
    return exporter.recorder.value(metric, *labels)


def test_depth_by_class_and_the_oldest(station, exporter):
    _ingest(station, "a", "b")
    _ingest(station, "c", priority=90)
    station.submit(name="unread")
    exporter.scan()
    assert _value(exporter, c.QUEUE_JOBS, "claimable", "normal") == 2
    assert _value(exporter, c.QUEUE_JOBS, "claimable", "high") == 1
    assert _value(exporter, c.QUEUE_INBOX) == 1
    assert abs(_value(exporter, c.QUEUE_OLDEST, "normal") - time.time()) < 60
    assert _value(exporter, c.QUEUE_OLDEST, "low") is None
    assert exporter.numbers["claimable"] == 4 and exporter.numbers["wanted"] == 4


def test_a_running_job_becomes_suspect_when_its_heartbeat_stands_still(station, exporter):
    _ingest(station, "a")
    lease = station.queue.claim()
    lease.beat(Progress())
    exporter.scan()
    assert _value(exporter, c.QUEUE_JOBS, "running", "normal") == 1
    assert abs(_value(exporter, c.OLDEST_HEARTBEAT) - time.time()) < 60
    time.sleep(0.4)
    lease.beat(Progress(images=1))
    exporter.scan()
    assert _value(exporter, c.QUEUE_JOBS, "suspect", "normal") == 0
    time.sleep(0.4)
    exporter.scan()
    assert _value(exporter, c.QUEUE_JOBS, "suspect", "normal") == 1
    assert exporter.numbers == {"claimable": 0, "delayed": 0, "paused": 0, "running": 0, "suspect": 1, "wanted": 1}


def test_ends_are_counted_from_the_first_scan_on(station, exporter):
    _ingest(station, "a", "b", "c")
    station.queue.claim().succeed(())
    exporter.scan()
    assert _value(exporter, c.JOBS_FINISHED, "succeeded") == 0
    station.queue.claim().succeed(())
    station.queue.claim().fail(Failure.of("diverged", "a loss is nan"))
    station.store.put("inbox/bad.yaml", b"nothing: good")
    station.queue.ingest(validator(station.settings.budgets))
    exporter.scan()
    exporter.scan()
    assert _value(exporter, c.JOBS_FINISHED, "succeeded") == 1
    assert _value(exporter, c.JOBS_FINISHED, "failed") == 1
    assert _value(exporter, c.DEAD_JOBS) == 1
    assert _value(exporter, c.SPECS_REJECTED, "spec_refused") == 1


def test_an_error_of_the_store_keeps_the_last_numbers_and_says_so(station, exporter, monkeypatch):
    _ingest(station, "a")
    assert exporter.unready()
    exporter.scan()
    assert exporter.unready() is None

    def refuse(*args, **kwargs):
        raise StoreRefused("no permission to list")

    monkeypatch.setattr(station.store, "list", refuse)
    scanned = _value(exporter, c.SCAN_SUCCESS)
    exporter.scan()
    assert exporter.unready() == "no permission to list"
    assert _value(exporter, c.QUEUE_JOBS, "claimable", "normal") == 1
    assert _value(exporter, c.SCAN_SUCCESS) == scanned


def test_it_only_reads(station, exporter, monkeypatch):
    _ingest(station, "a", "b")
    station.queue.claim()
    for name in ("put", "create", "delete", "copy", "upload"):
        monkeypatch.setattr(station.store, name, None)
    exporter.scan()
    assert exporter.unready() is None


def test_every_metric_it_shows_is_in_the_catalogue(station, exporter):
    _ingest(station, "a")
    exporter.scan()
    text = exporter.recorder.render()[0].decode()
    shown = {family.name for family in text_string_to_metric_families(text)}
    assert {name.removesuffix("_total") for name in c.METRIC_NAMES} >= shown
    assert len([line for line in text.splitlines() if not line.startswith("#")]) <= 120


def test_run_scans_until_it_is_told_to_stop(exporter):
    waits = iter([False, False, True])
    exporter.run(30.0, lambda seconds: next(waits))
    assert next(waits, "over") == "over"


@pytest.mark.parametrize(("priority", "name"), [(99, "high"), (70, "high"), (69, "normal"), (30, "normal"), (0, "low")])
def test_classes(priority, name):
    assert priority_class(priority) == name
