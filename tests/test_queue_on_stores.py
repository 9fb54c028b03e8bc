"""The whole queue on every real store: rival workers, a lost one, a person, and results with true hashes."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.queue import Fenced, Lease, OutputFile, Progress, Queue, QueueSettings, keys
from service.store import DirectoryStore, Store, open_store
from tests.linearizability import check_log_history
from tests.queue_world import validate
from tests.recorded_log import record
from tests.s3_servers import GOOD_SERVERS, environment_of, s3_server

WORKERS, JOBS = 3, 9
SETTINGS = QueueSettings(
    ttl_seconds=3, suspect_seconds=1, heartbeat_seconds=0.5, poll_seconds=0.3, backoff_base_seconds=0.1
)


@pytest.fixture(params=["directory", *(pytest.param(name, marks=pytest.mark.s3) for name in GOOD_SERVERS)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "store")
        return
    server = s3_server(request.param)
    with environment_of(server):
        yield open_store(f"s3://{server.make_bucket()}/queue")


def finish(store: Store, lease: Lease) -> None:
    content = f"{lease.id} by attempt {lease.epoch}".encode()
    store.put(f"{lease.attempt_prefix}/report.json", content)
    lease.beat(Progress(images=1))
    digest = hashlib.sha256(content).hexdigest()
    lease.succeed((OutputFile(path="report.json", size_bytes=len(content), sha256=digest),))


class Worker(threading.Thread):
    """Polls until it is told to stop."""

    def __init__(self, store: Store, name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.queue = Queue(store, worker_id=name, settings=SETTINGS)
        self.operations = record(self.queue)
        self.done: list[str] = []
        self._store = store
        self._stop_event = stop

    def run(self) -> None:
        while not self._stop_event.is_set():
            lease = self.queue.poll(validate)
            if lease is None:
                self._stop_event.wait(self.queue.next_poll_seconds())
                continue
            finish(self._store, lease)
            self.done.append(lease.id)


def test_rival_workers_share_the_jobs(store: Store) -> None:
    person = Queue(store, worker_id="person", settings=SETTINGS)
    submitted = [person.submit(f"name: job-{number}\n".encode(), f"job-{number}") for number in range(JOBS)]
    stop = threading.Event()
    workers = [Worker(store, f"w{number}", stop) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + 120
    while sum(1 for _ in store.list(keys.DONE)) < JOBS and time.monotonic() < deadline:
        time.sleep(0.2)
    stop.set()
    for worker in workers:
        worker.join()
    assert Counter(job_id for worker in workers for job_id in worker.done) == Counter(submitted)
    for number, job_id in enumerate(submitted):
        state = person.job(job_id).state
        assert (state.status, state.attempts) == ("succeeded", 1)
        content = store.get(f"results/job-{number}/{job_id}/report.json")
        assert [file.sha256 for file in state.files] == [hashlib.sha256(content).hexdigest()]
        operations = [operation for worker in workers for operation in worker.operations[job_id]]
        assert check_log_history(operations) is None
    left = [stat.key for prefix in (keys.INBOX, keys.READY, keys.ACTIVE) for stat in store.list(prefix)]
    assert left == []


def test_a_lost_worker_is_replaced_and_its_ghost_is_fenced(store: Store) -> None:
    ghost_queue = Queue(store, worker_id="ghost", settings=SETTINGS)
    job_id = ghost_queue.submit(b"name: run\n", "run")
    ghost = ghost_queue.poll(validate)
    assert ghost is not None
    ghost.beat(Progress(images=5))
    heir_queue = Queue(store, worker_id="heir", settings=SETTINGS)
    deadline = time.monotonic() + 60
    while (heir := heir_queue.take_over()) is None and time.monotonic() < deadline:
        time.sleep(0.5)
    assert heir is not None
    store.put(f"{ghost.attempt_prefix}/report.json", b"ghost")
    with pytest.raises(Fenced):
        ghost.succeed((OutputFile(path="report.json", size_bytes=5, sha256="0" * 64),))
    finish(store, heir)
    assert store.get(f"results/run/{job_id}/report.json") == f"{job_id} by attempt {heir.epoch}".encode()
    assert [entry.kind for entry in heir_queue.job("run").history] == ["submit", "claim", "take_over", "finish"]


def test_a_person_changes_their_mind(store: Store) -> None:
    queue = Queue(store, worker_id="w", settings=SETTINGS)
    job_id = queue.submit(b"name: run\n", "run")
    queue.ingest(validate)
    queue.prioritise(job_id, 90)
    queue.pause(job_id)
    assert queue.claim() is None
    queue.resume(job_id)
    store.put(f"inbox/{job_id}.cancel", b"")
    time.sleep(store.settle_seconds + 0.1)
    assert queue.ingest(validate).controls == [f"inbox/{job_id}.cancel"]
    assert queue.claim() is None
    queue.retry("run")
    lease = queue.claim()
    assert lease is not None
    finish(store, lease)
    assert "succeeded" in queue.why("run").sentence
    assert [view.state.id for view in queue.status().finished] == [job_id]
