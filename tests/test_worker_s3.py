"""The worker end to end on real S3 servers: a job, its inputs from two buckets, its results."""

import json
import os
import subprocess
import sys

import pytest

from jobs.errors import GankilnError
from service import supervisor
from service.store import open_store
from service.store.selftest import check_store
from tests.s3_servers import GOOD_SERVERS, environment_of, s3_server
from tests.worker_kit import Station, final_state

pytestmark = pytest.mark.s3


@pytest.fixture(params=GOOD_SERVERS)
def server(request):
    return s3_server(request.param)


def test_a_job_and_its_results(server, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.05)
    with environment_of(server):
        station = Station(tmp_path, open_store(f"s3://{server.make_bucket()}/some/prefix"))
        good = station.submit(name="good", signal=11, at=12, once=str(tmp_path / "crashed"))
        bad = station.submit(name="bad", exit=67)
        station.store.put("inbox/wrong.yaml", b"name: [")
        station.work()
        assert station.state(good).status == "succeeded" and station.state(good).attempts == 2
        assert json.loads(station.result(good, "good")["report.json"])["state"] == final_state()
        assert station.state(bad).failure.reason == "diverged"
        assert b"wrong.yaml" in station.store.get("rejected/wrong.error.txt")


def test_inputs_are_fetched_once_from_the_store_and_from_other_buckets(server, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.05)
    with environment_of(server):
        other = server.make_bucket()
        server.client().put_object(Bucket=other, Key="sets/birds.zip", Body=b"birds")
        server.client().put_object(Bucket=other, Key="sets/birds/1.png", Body=b"bird")
        station = Station(tmp_path, open_store(f"s3://{server.make_bucket()}"))
        station.store.put("datasets/cats.zip", b"cats")

        def data(kind, path):
            return f"{{kind: {kind}, path: '{path}', resolution: 32}}"

        jobs = {
            "own": station.submit(name="own", data=data("zip", "datasets/cats.zip"), read="inputs/datasets/cats.zip"),
            "again": station.submit(name="again", data=data("zip", "datasets/cats.zip")),
            "other": station.submit(
                name="other", data=data("zip", f"s3://{other}/sets/birds.zip"), read=f"inputs/s3/{other}/sets/birds.zip"
            ),
            "folder": station.submit(
                name="folder",
                data=data("folder", f"s3://{other}/sets/birds"),
                read=f"inputs/s3/{other}/sets/birds/1.png",
            ),
            "missing": station.submit(name="missing", data=data("zip", f"s3://{other}/none.zip")),
        }
        worker = station.worker()
        worker.run(exit_when_idle_seconds=0)
        assert station.result(jobs["own"], "own")["read.txt"] == b"cats"
        assert station.result(jobs["other"], "other")["read.txt"] == b"birds"
        assert station.result(jobs["folder"], "folder")["read.txt"] == b"bird"
        assert station.state(jobs["missing"]).failure.reason == "data_missing"
        assert len(list(station.settings.inputs_dir.glob("*/entry.json"))) == 3


@pytest.mark.parametrize("command", ["worker", "status", "doctor"])
def test_wrong_keys_are_one_sentence_and_a_non_zero_exit(command, tmp_path):
    server = s3_server("seaweedfs")  # it looks at signatures
    store = f"s3://{server.make_bucket()}"
    wrong = {"AWS_SECRET_ACCESS_KEY": "another-secret", "GANKILN_HOME": str(tmp_path), "GANKILN_METRICS_PORT": "0"}
    process = subprocess.run(
        [sys.executable, "-m", "service", command, "--store", store],
        env=os.environ | server.environment | wrong,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert process.returncode == (1 if command == "doctor" else 77), process.stdout
    assert "Traceback" not in process.stdout and "another-secret" not in process.stdout
    assert len([line for line in process.stdout.splitlines() if server.endpoint in line or store in line]) >= 1


def test_a_bucket_that_is_not_there_is_one_sentence():
    server = s3_server("ministack")  # SeaweedFS makes it
    with environment_of(server), pytest.raises(GankilnError) as caught:
        check_store(open_store("s3://no-such-bucket-here"))
    assert "no-such-bucket-here" in str(caught.value)
    assert "\n" not in caught.value.message
