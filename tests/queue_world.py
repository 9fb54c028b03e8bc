"""A queue in memory whose clock the test moves: what the tests of service/queue share."""

import hashlib
from dataclasses import dataclass, field
from itertools import count
from random import Random

from jobs.errors import SpecError
from service.queue import Lease, Progress, Queue, QueueSettings, SpecFacts
from service.store import MemoryStore, Store, Unavailable

START_SECONDS = 1_800_000_000.0


@dataclass
class TestClock:
    """Time that passes when the test says so, or when somebody sleeps."""

    __test__ = False
    seconds: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    def wall(self) -> float:
        return START_SECONDS + self.seconds


class World:
    """One store, one clock, any number of workers."""

    def __init__(self, store: Store | None = None, **settings: float) -> None:
        self.clock = TestClock()
        self.store = store or FlakyStore(self.clock)
        self.settings = QueueSettings(**settings)
        self._seeds = count()

    def worker(self, name: str = "w1", node: str = "") -> Queue:
        random = Random(next(self._seeds))
        return Queue(self.store, worker_id=name, node=node, settings=self.settings, clock=self.clock, random=random)

    def submit(self, name: str = "job", **facts: object) -> str:
        """A job in the queue."""
        queue = self.worker("submitter")
        job_id = queue.submit(f"name: {name}\n".encode(), name)
        report = queue.ingest(lambda content, file: SpecFacts(name=name, **facts))
        assert job_id in report.created, report
        return job_id

    def claimed(self, name: str = "job", worker: str = "w1", **facts: object) -> Lease:
        """A job that a worker has."""
        self.submit(name, **facts)
        lease = self.worker(worker).claim()
        assert lease is not None
        return lease

    def later(self, seconds: float) -> None:
        self.clock.seconds += seconds

    def keys(self, prefix: str = "") -> list[str]:
        return [stat.key for stat in self.store.list(prefix)]

    def watch(self, queue: Queue, seconds: float = 120.0, every: float = 30.0) -> Lease | None:
        """Let an idle worker look for lost ones for a while; the lease it takes over, if any."""
        for _ in range(int(seconds / every) + 1):
            if lease := queue.take_over():
                return lease
            self.later(every)
        return None


class FlakyStore(MemoryStore):
    """A memory store in which the test makes requests fail, before or after they took effect."""

    def __init__(self, clock: TestClock) -> None:
        super().__init__(time_seconds=clock.wall)
        self.fail_before: list[str] = []
        """Beginnings of "operation key"; the first that fits fails once, without effect."""
        self.fail_after: list[str] = []
        """The same, but the request took effect and only its answer is lost."""
        self.down = False
        self.asked: list[str] = []

    def _strike(self, request: str, planned: list[str]) -> None:
        for beginning in planned:
            if request.startswith(beginning):
                planned.remove(beginning)
                raise Unavailable(request)

    def _wrap(self, operation: str, key: str, act):
        request = f"{operation} {key}"
        self.asked.append(request)
        if self.down:
            raise Unavailable(request)
        self._strike(request, self.fail_before)
        answer = act()
        self._strike(request, self.fail_after)
        return answer

    def read(self, key):
        return self._wrap("get", key, lambda: super(FlakyStore, self).read(key))

    def put(self, key, data):
        return self._wrap("put", key, lambda: super(FlakyStore, self).put(key, data))

    def create(self, key, data):
        return self._wrap("create", key, lambda: super(FlakyStore, self).create(key, data))

    def delete(self, key):
        return self._wrap("delete", key, lambda: super(FlakyStore, self).delete(key))

    def stat(self, key):
        return self._wrap("stat", key, lambda: super(FlakyStore, self).stat(key))

    def list(self, prefix, *, limit=None, start_after=""):
        return self._wrap(
            "list", prefix, lambda: super(FlakyStore, self).list(prefix, limit=limit, start_after=start_after)
        )


def validate(content: bytes, name: str) -> SpecFacts:
    """`name: x` and nothing else, for tests that drop files."""
    text = content.decode()
    if not text.startswith("name: "):
        raise SpecError(f"{name}:1:1: a spec begins with its name", hint="name: my-run")
    return SpecFacts(name=text.removeprefix("name: ").split("\n")[0].strip())


def beat(lease: Lease, images: int = 0) -> None:
    lease.beat(Progress(images=images))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
