"""What the queue costs when there is much in it: python -m tests.benchmarks.bench_queue [--finished N] [--waiting N]

A directory store with 100,000 finished and 10,000 waiting jobs. Prints list requests a poll (at most 3), requests an
hour of an idle worker (at most 300), and how long a claim takes (p50 under 50 ms), each line with what it must hold.
Takes about a minute, nearly all of it to lay out the 600,000 names; longer on a disk that is slow to forget them.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from service.queue import JobState, Queue, SpecFacts, keys, transitions
from service.queue.log import Draft, JobLog
from service.store import DirectoryStore

IDLE_HOURS = 4
POLLS = 20
CLAIMS = 100
LINKS = 50_000  # ext4 allows 65,000 names of one file
SPEC = b"name: bench\n"
FACTS = SpecFacts(name="bench")


class Stopwatch:
    """The store's clock and the workers' clock, which jump instead of waiting."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Layout:
    """Writes jobs as the queue would, without its syncs and looks, so that laying out takes minutes and not hours."""

    def __init__(self, store: DirectoryStore) -> None:
        self._root = store.root
        self._now = store.server_time_seconds() - 86_400
        self._made: set[Path] = set()
        self._shared: dict[tuple[str, int], Path] = {}
        quick = DirectoryStore(store.root, durable=False)
        self._log = JobLog(quick, writer="bench", clock=Stopwatch(), random=Random(0))

    def finished(self, number: int) -> None:
        queued = self._queued(number)
        claimed = transitions.claimed(queued, 2, worker="bench", node="", now_seconds=self._now)
        done = transitions.succeeded(claimed, 3, files=(), seconds=60.0, now_seconds=self._now + number % 80_000)
        for index, state in enumerate((queued, claimed, done), start=1):
            self._share(keys.log_entry(state.id, index), number, lambda i=index, s=state: self._entry(i, s))
        self._write(keys.marker(done), b"")
        self._write(keys.due(done.finished_seconds + 30 * 86_400, "attempts", done.id), b"")

    def waiting(self, number: int) -> None:
        state = self._queued(number)
        self._write(keys.log_entry(state.id, 1), self._entry(1, state))
        self._write(keys.marker(state), b"")

    def _queued(self, number: int) -> JobState:
        submitted = self._now + number / 10
        job_id = keys.job_id(submitted, b"%d" % number)
        self._share(keys.spec(job_id), number, lambda: SPEC)
        facts = FACTS.model_copy(update={"priority": 50 + number % 3})
        return transitions.submitted(job_id, facts, spec_sha256="0" * 64, source="bench", now_seconds=submitted)

    def _entry(self, index: int, state: JobState) -> bytes:
        draft = Draft("submit", "benchmark", self._log.nonce())
        return self._log.entry(index, draft, state).model_dump_json(exclude_defaults=True).encode()

    def _share(self, key: str, number: int, content: Callable[[], bytes]) -> None:
        """One file under many names, as long as the file system allows: nobody reads the logs of finished jobs."""
        path, shared = self._path(key), (Path(key).name, number // LINKS)
        if shared not in self._shared:
            path.write_bytes(content())
            self._shared[shared] = path
        else:
            path.hardlink_to(self._shared[shared])

    def _write(self, key: str, content: bytes) -> None:
        self._path(key).write_bytes(content)

    def _path(self, key: str) -> Path:
        path = self._root / key
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        return path


class Counted:
    """Requests of a store, by operation."""

    def __init__(self, store: DirectoryStore) -> None:
        self.requests: Counter[str] = Counter()
        store.observer = self._count

    def _count(self, operation: str, code: str, seconds: float) -> None:
        self.requests[operation] += 1

    def reset(self) -> None:
        self.requests.clear()


def refuse(content: bytes, name: str) -> SpecFacts:
    raise AssertionError("the inbox is empty")


def idle_requests_an_hour(store: DirectoryStore, counted: Counted) -> float:
    clock = Stopwatch()
    queue = Queue(store, worker_id="idle", clock=clock, random=Random(1))
    counted.reset()
    while clock.seconds < IDLE_HOURS * 3600:
        queue.poll(refuse)
        clock.sleep(queue.next_poll_seconds())
    return counted.requests.total() / IDLE_HOURS


def lists_a_poll(store: DirectoryStore, counted: Counted) -> int:
    """The most of any poll of a worker that looks and takes nothing."""
    queue = Queue(store, worker_id="looking")
    most = 0
    for _ in range(POLLS):
        counted.reset()
        queue.poll(refuse, accept=lambda state: False)
        most = max(most, counted.requests["list"])
    return most


def claim_seconds(store: DirectoryStore, claims: int) -> list[float]:
    queue = Queue(store, worker_id="claiming")
    times = []
    for _ in range(claims):
        started = time.perf_counter()
        lease = queue.claim()
        times.append(time.perf_counter() - started)
        if lease is None:
            raise RuntimeError("nothing to claim, although jobs wait")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--waiting", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gankiln-bench-") as folder:
        run(DirectoryStore(Path(folder) / "store"), options.finished, options.waiting)


def run(store: DirectoryStore, finished: int, waiting: int) -> list[tuple[str, float, float]]:
    """Rows of (what, measured, at most), printed."""
    layout, counted = Layout(store), Counted(store)
    started = time.perf_counter()
    for number in range(finished):
        layout.finished(number)
    idle = idle_requests_an_hour(store, counted)
    for number in range(finished, finished + waiting):
        layout.waiting(number)
    laid_out_seconds = time.perf_counter() - started
    most_lists = lists_a_poll(store, counted)
    times_ms = [1000 * seconds for seconds in claim_seconds(store, min(CLAIMS, waiting))]
    rows = [
        ("list requests a poll, at most", float(most_lists), 3.0),
        ("requests an hour of an idle worker", idle, 300.0),
        ("claim p50, ms", statistics.median(times_ms), 50.0),
        ("claim p95, ms", sorted(times_ms)[int(0.95 * len(times_ms))], float("inf")),
    ]
    print(
        f"{finished} finished and {waiting} waiting jobs in {store.url}, laid out in {laid_out_seconds:.0f} s",
        flush=True,
    )
    for what, measured, limit in rows:
        bound = f"<= {limit:.0f}" if limit < float("inf") else ""
        print(f"  {what:38s} {measured:9.1f}  {bound:7s} {'' if measured <= limit else 'MISSED'}".rstrip(), flush=True)
    return rows


if __name__ == "__main__":
    main()
