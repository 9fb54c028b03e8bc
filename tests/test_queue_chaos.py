"""Real processes, real kills: whatever dies or freezes, every job ends once and its files are the committer's."""

import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest

from jobs.errors import StoreError
from service.queue import (
    Budgets,
    Checkpoint,
    Fenced,
    Lease,
    OutputFile,
    Progress,
    Queue,
    QueueSettings,
    SpecFacts,
    keys,
)
from service.store import DirectoryStore, Store, open_store
from tests.linearizability import Operation, check_log_history
from tests.recorded_log import merge, record
from tests.s3_servers import S3Server, environment_of, s3_server

WORKERS, JOBS, CHUNKS = 3, 10, 5
CHUNK_SECONDS = 0.25
LIMIT_SECONDS = 120.0
SETTINGS = QueueSettings(
    ttl_seconds=2.0, suspect_seconds=1, heartbeat_seconds=CHUNK_SECONDS, poll_seconds=0.2, backoff_base_seconds=0.1
)
OpenStore = Callable[[], Store]


def facts(content: bytes, name: str) -> SpecFacts:
    return SpecFacts(name=content.decode(), budgets=Budgets(max_lost=100))


def work(open_here: OpenStore, name: str, history: Path) -> None:
    """A worker process: poll, run, for ever; what it saw of the logs goes to a file, a line at a time."""
    store = open_here()
    queue = Queue(store, worker_id=name, settings=SETTINGS)
    file = history.open("a", buffering=1)
    record(queue, keep=lambda job_id, operation: file.write(json.dumps([job_id, asdict(operation)]) + "\n") and None)
    while True:
        with suppress(StoreError, Fenced):
            if lease := queue.poll(facts):
                run(store, lease)
        time.sleep(queue.next_poll_seconds())


def run(store: Store, lease: Lease) -> None:
    """A few chunks of work with a beat after each, from where the last attempt got."""
    for chunk in range(lease.resume_from.images if lease.resume_from else 0, CHUNKS):
        time.sleep(CHUNK_SECONDS)
        with suppress(StoreError):
            put_report(store, lease)
            prefix = f"attempts/{lease.epoch:08d}/checkpoints/{chunk + 1:09d}"
            lease.beat(Progress(checkpoint=Checkpoint(prefix=prefix, images=chunk + 1, manifest_sha256="0" * 64)))
    while True:
        with suppress(StoreError):
            lease.succeed((put_report(store, lease),))
            return


def put_report(store: Store, lease: Lease) -> OutputFile:
    content = f"{lease.id} {lease.epoch} {os.getpid()}".encode()
    store.put(f"{lease.attempt_prefix}/report.json", content)
    return OutputFile(path="report.json", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


class Fleet:
    """Worker processes that the test may kill, stop and wake."""

    def __init__(self, open_here: OpenStore, folder: Path) -> None:
        self._open_here = open_here
        self._folder = folder
        self._context = multiprocessing.get_context("fork")
        self._started = 0
        self.processes: list[multiprocessing.process.BaseProcess] = []
        for _ in range(WORKERS):
            self.start()

    def start(self) -> None:
        self._started += 1
        history = self._folder / f"history-{self._started}.jsonl"
        arguments = (self._open_here, f"w{self._started}", history)
        process = self._context.Process(target=work, args=arguments, daemon=True)
        process.start()
        self.processes.append(process)

    def kill_one(self, random: Random) -> None:
        victim = self.processes.pop(random.randrange(len(self.processes)))
        victim.kill()
        victim.join()
        self.start()

    def signal_one(self, number: signal.Signals) -> None:
        os.kill(self.processes[0].pid, number)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def history(self) -> dict[str, list[Operation]]:
        kept = []
        for path in sorted(self._folder.glob("history-*.jsonl")):
            for line in path.read_text().splitlines():
                with suppress(ValueError):  # the last line of a killed process may be torn
                    job_id, operation = json.loads(line)
                    kept.append((job_id, Operation(**operation)))
        return merge(kept)


def test_kills_and_freezes_in_a_directory(tmp_path: Path) -> None:
    root = tmp_path / "store"
    check_chaos(lambda: DirectoryStore(root, durable=False), tmp_path, outage=lambda: None)


@pytest.mark.s3
@pytest.mark.slow
def test_kills_freezes_and_an_outage_on_s3(tmp_path: Path, frozen: Callable[[], None]) -> None:
    bucket = s3_server("seaweedfs").make_bucket()
    check_chaos(lambda: open_store(f"s3://{bucket}/chaos"), tmp_path, outage=frozen)


@pytest.fixture
def frozen() -> Iterator[Callable[[], None]]:
    """An outage: the server stands still for twice the time after which a worker counts as lost."""
    server: S3Server = s3_server("seaweedfs")

    def outage() -> None:
        server.pause()
        time.sleep(2 * SETTINGS.ttl_seconds)
        server.resume()

    with environment_of(server):
        yield outage
    server.resume()


def check_chaos(open_here: OpenStore, folder: Path, outage: Callable[[], None]) -> None:
    store, random = open_here(), Random(7)
    person = Queue(store, worker_id="person", settings=SETTINGS)
    jobs = [person.submit(f"job-{number}".encode(), f"job-{number}") for number in range(JOBS)]
    fleet = Fleet(open_here, folder)
    try:
        make_trouble(fleet, store, random, outage)
        wait_for_the_end(store)
    finally:
        fleet.stop()
    history = fleet.history()
    assert any(entry.kind == "take_over" for job_id in jobs for entry in person.job(job_id).history)
    for number, job_id in enumerate(jobs):
        check_job(person, store, job_id, f"job-{number}")
        assert check_log_history(history[job_id]) is None


def make_trouble(fleet: Fleet, store: Store, random: Random, outage: Callable[[], None]) -> None:
    """A kill a second; one worker frozen past the TTL and woken; the store away once."""
    fleet.signal_one(signal.SIGSTOP)
    frozen_at, away = time.monotonic(), False
    for _ in range(8):
        time.sleep(1.0)
        if time.monotonic() - frozen_at > 2 * SETTINGS.ttl_seconds:
            with suppress(ProcessLookupError):
                fleet.signal_one(signal.SIGCONT)
            if not away:
                outage()
                away = True
        fleet.kill_one(random) if random.random() < 0.8 else None
    fleet.signal_one(signal.SIGCONT)


def wait_for_the_end(store: Store) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(StoreError):
            if sum(1 for _ in store.list(keys.DONE)) == JOBS and not [*store.list(keys.ACTIVE)]:
                return
        time.sleep(0.2)
    pytest.fail(f"after {LIMIT_SECONDS:.0f} s not every job has ended")


def check_job(person: Queue, store: Store, job_id: str, name: str) -> None:
    job = person.job(job_id)
    assert job.state.status == "succeeded"
    assert sum(entry.state.status == "succeeded" for entry in job.history) == 1
    [file] = job.state.files
    content = store.get(f"results/{name}/{job_id}/report.json")
    assert hashlib.sha256(content).hexdigest() == file.sha256
    assert content.split()[1] == str(job.state.epoch).encode()
