"""One real StyleGAN2, submitted, trained by a worker process that is killed on the way, taken over, and fetched."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from service.queue import Queue, QueueSettings
from service.store import DirectoryStore

SPEC = Path(__file__).parent / "specs/stylegan2.yaml"
TIMES = {
    "GANKILN_TTL_SECONDS": "3",
    "GANKILN_HEARTBEAT_SECONDS": "0.5",
    "GANKILN_POLL_SECONDS": "0.5",
    "GANKILN_METRICS_PORT": "0",
    "GANKILN_LOG_FORMAT": "json",
}


@pytest.fixture
def environment(tmp_path):
    return os.environ | TIMES | {"GANKILN_HOME": str(tmp_path / "home"), "GANKILN_STORE": str(tmp_path / "store")}


def _gankiln(environment, *arguments):
    return [sys.executable, "-m", "service", *arguments], {"env": environment, "text": True}


def _run(environment, *arguments):
    command, options = _gankiln(environment, *arguments)
    return subprocess.run(command, **options, check=True, capture_output=True, timeout=300).stdout


def _wait_for_a_checkpoint(queue, job, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for view in queue.status().running:
            if view.heartbeat and view.heartbeat.progress.checkpoint:
                return view.heartbeat.progress.checkpoint
        time.sleep(0.1)
    raise AssertionError("no checkpoint was published")


def _spec(tmp_path, images):
    """The tiny spec, with less to evaluate."""
    spec = yaml.safe_load(SPEC.read_text())
    spec["training"]["images"] = images
    spec["evaluation"] |= {"features": ["pixels"], "samples": 16, "sanity": False}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_submit_work_fetch(environment, tmp_path):
    job = json.loads(_run(environment, "submit", str(_spec(tmp_path, 64)), "--json"))[0]["id"]
    _run(environment, "worker", "--exit-when-idle")
    _run(environment, "results", job, "--out", str(tmp_path / "fetched"))
    report = json.loads((tmp_path / "fetched/report.json").read_text())
    assert report["images"] == 64 and report["metrics"]
    assert (tmp_path / "fetched/report.html").stat().st_size > 10_000
    assert list((tmp_path / "fetched/samples").glob("*.png"))
    assert '"outcome": "finished"' in _run(environment, "logs", job)


@pytest.mark.slow
def test_a_killed_worker_s_job_is_finished_by_another_as_if_nothing_had_happened(environment, tmp_path):
    spec = _spec(tmp_path, 768)
    job = json.loads(_run(environment, "submit", str(spec), "--json"))[0]["id"]
    command, options = _gankiln(environment, "worker")
    queue = Queue(DirectoryStore(tmp_path / "store"), worker_id="test", settings=QueueSettings())
    with subprocess.Popen(command, **options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        checkpoint = _wait_for_a_checkpoint(queue, job)
        worker.send_signal(signal.SIGKILL)
    assert checkpoint.images < 768
    _run(environment, "worker", "--exit-when-idle")
    state = queue.job(job).state
    assert (state.status, state.lost, state.attempts) == ("succeeded", 1, 2), state
    fetched, straight = tmp_path / "fetched", tmp_path / "straight"
    _run(environment, "results", job, "--out", str(fetched))
    _run(environment, "run", str(spec), "--out", str(straight))
    one, other = (load_file(out / "checkpoints/000000768/generator.safetensors") for out in (fetched, straight))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    starts = [line for line in (fetched / "events.jsonl").read_text().splitlines() if '"start"' in line]
    assert json.loads(starts[-1])["images"] >= checkpoint.images
