"""Chaos, end to end: real worker processes are killed, frozen and cut off from the store; every job ends once, whole.

The full size (30 jobs, 4 workers) and the run over a real S3 server are marked slow; a smaller one runs always.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from service.queue import keys
from service.store import DirectoryStore, Unavailable, open_store
from tests.linearizability import Operation, check_log_history
from tests.s3_servers import environment_of, s3_server
from tests.worker_kit import Station, final_state

STEPS = 15
STEP_SECONDS = 0.1
END_SECONDS = 240.0


@dataclass
class Fleet:
    """Worker processes, each restarted when it was killed."""

    store_url: str
    folder: Path
    size: int
    cut_off: Callable[[bool], None]
    """Takes the store away (True) and brings it back."""
    workers: dict[int, subprocess.Popen] = field(default_factory=dict)
    started: int = 0

    def start(self, slot):
        self.started += 1
        history = self.folder / f"history-{self.started:03d}.jsonl"
        output = (self.folder / f"worker-{self.started:03d}.log").open("wb")
        with output:
            self.workers[slot] = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos_worker", self.store_url, str(self.folder / "home"), str(history),
                 str(self.folder / "down")],
                stdout=output,
                stderr=output,
                env=os.environ | {"GANKILN_WORKER": f"worker{self.started}"},
                cwd=Path(__file__).parents[1],
            )  # fmt: skip

    def __enter__(self):
        for slot in range(self.size):
            self.start(slot)
        return self

    def __exit__(self, *_):
        for worker in self.workers.values():
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
        for worker in self.workers.values():
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def kill(self, slot):
        self.workers[slot].kill()
        self.workers[slot].wait()
        self.start(slot)

    def output(self):
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("worker-*.log")))


def _unleash(fleet, finished, dice, *, kill_every_seconds):
    """Faults until every job has ended: kills, one freeze past the TTL, one outage. Returns how many of each."""
    told = {"kills": 0, "freezes": 0, "outages": 0}
    began = time.monotonic()
    next_kill = began + kill_every_seconds
    frozen = None
    while not finished():
        now = time.monotonic()
        assert now - began < END_SECONDS, fleet.output()[-4000:]
        if told["freezes"] == 0 and now > began + 3:
            frozen = dice.randrange(fleet.size)
            fleet.workers[frozen].send_signal(signal.SIGSTOP)
            told["freezes"] += 1
        if frozen is not None and now > began + 10:  # three times the TTL
            fleet.workers[frozen].send_signal(signal.SIGCONT)
            frozen = None
        if told["outages"] == 0 and now > began + 11:
            fleet.cut_off(True)
            threading.Timer(5.0, fleet.cut_off, (False,)).start()
            told["outages"] += 1
        if now > next_kill:
            slot = dice.choice([slot for slot in range(fleet.size) if slot != frozen])
            fleet.kill(slot)
            told["kills"] += 1
            next_kill = now + kill_every_seconds * dice.uniform(0.7, 1.3)
        time.sleep(0.1)
    if frozen is not None:
        fleet.workers[frozen].send_signal(signal.SIGCONT)
    return told


def _chaos(station, url, tmp_path, *, jobs, workers, kill_every_seconds, seed=0, cut_off=None):
    ids = [station.submit(name=f"job{number:02d}", steps=STEPS, seconds=STEP_SECONDS) for number in range(jobs)]

    def finished():
        try:
            return len(list(station.store.list("done/"))) == jobs and not list(station.store.list("active/"))
        except Unavailable:
            return False

    down = tmp_path / "down"

    def by_file(away):
        down.touch() if away else down.unlink()

    with Fleet(url, tmp_path, workers, cut_off or by_file) as fleet:
        told = _unleash(fleet, finished, random.Random(seed), kill_every_seconds=kill_every_seconds)
    output = fleet.output()
    assert "Traceback" not in output, output[-4000:]
    _every_job_ended_once(station, ids)
    _histories_are_linearizable(tmp_path)
    _nothing_lives_on(tmp_path)
    return told, output


def _every_job_ended_once(station, ids):
    for number, job in enumerate(ids):
        view = station.queue.job(job)
        assert view.state.status == "succeeded", view.state
        assert [entry.index for entry in view.history] == list(range(1, len(view.history) + 1))
        assert [entry.kind for entry in view.history].count("finish") == 1
        owner = [entry for entry in view.history if entry.kind in ("claim", "take_over")][-1]
        assert view.history[-1].writer == owner.writer == view.state.worker
        files = station.result(job, f"job{number:02d}")  # checks every sha256
        assert json.loads(files["report.json"]) == {"images": STEPS * 10, "state": final_state(STEPS)}
    assert not [stat.key for prefix in (keys.READY, keys.INBOX, keys.DEAD) for stat in station.store.list(prefix)]


def _histories_are_linearizable(folder):
    by_job = defaultdict(list)
    for file in folder.glob("history-*.jsonl"):
        for operation, job in _operations(file):
            by_job[job].append(operation)
    assert by_job
    for job, operations in by_job.items():
        assert check_log_history(operations) is None, (job, len(operations))


def _operations(file):
    """The operations of one worker process; a last line may be torn by a kill."""
    lines, answers = [], {}
    for line in file.read_text().splitlines():
        try:
            fact = json.loads(line)
        except ValueError:
            continue
        if "of" in fact:
            answers[fact["of"]] = fact
        else:
            lines.append(fact)
    for fact in lines:
        _, job, _, name = fact["key"].split("/")
        index, asked = int(name.removesuffix(".json")), fact["asked"]
        if fact["kind"] == "read":
            yield Operation("read", index, fact["nonce"], asked, fact["answered"]), job
        elif (answer := answers.get(fact["number"])) is None:
            yield Operation("append", index, fact["nonce"], asked, None), job
        else:
            kind = "append" if answer["created"] else "lose"
            yield Operation(kind, index, fact["nonce"], asked, answer["answered"]), job


def _nothing_lives_on(folder):
    """No job outlived its worker."""
    alive = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or ())
    ]
    _, alive = psutil.wait_procs(alive, timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def _station(tmp_path, store):
    return Station(tmp_path, store, max_lost=100)


def test_a_small_fleet_through_kills_a_freeze_and_an_outage(tmp_path):
    store = DirectoryStore(tmp_path / "store", durable=False)
    told, output = _chaos(
        _station(tmp_path, store), str(store.root), tmp_path, jobs=10, workers=3, kill_every_seconds=2.5
    )
    assert told["kills"] >= 3 and told["freezes"] == 1 and told["outages"] == 1
    assert '"code": "fenced"' in output or '"take_over"' in _kinds(store)


def _kinds(store):
    return " ".join(store.get(stat.key).decode() for stat in store.list("jobs/") if "/log/" in stat.key).replace(
        ":", ": "
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_thirty_jobs_and_four_workers(tmp_path, seed):
    store = DirectoryStore(tmp_path / "store", durable=False)
    told, _ = _chaos(
        _station(tmp_path, store), str(store.root), tmp_path, jobs=30, workers=4, kill_every_seconds=2.5, seed=seed
    )
    assert told["kills"] >= 5


@pytest.mark.slow
@pytest.mark.s3
def test_thirty_jobs_and_four_workers_on_a_real_s3_server(tmp_path):
    server = s3_server("seaweedfs")
    with environment_of(server):
        url = f"s3://{server.make_bucket()}/queue"
        station = _station(tmp_path, open_store(url))
        told, _ = _chaos(
            station,
            url,
            tmp_path,
            jobs=30,
            workers=4,
            kill_every_seconds=4.0,
            cut_off=lambda away: server.pause() if away else server.resume(),
        )
    assert told["kills"] >= 5
