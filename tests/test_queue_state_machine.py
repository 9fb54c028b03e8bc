"""Any order of what people and workers may do, against a model of a few lines.

Hypothesis chooses the order and shrinks what breaks. Workers die, sleep, come back as zombies; requests and answers get
lost at random; the model knows only what each job may be.
"""

from collections.abc import Callable
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from jobs.errors import StoreError
from service.queue import Checkpoint, Failure, Fenced, JobState, Lease, NotPossible, Progress, Queue, keys
from service.queue.model import Entry
from service.store import Unavailable
from tests.queue_world import World, validate

WORKERS = 3


class QueueMachine(RuleBasedStateMachine):
    """Three workers, a person, and a store that sometimes does not answer."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(backoff_base_seconds=1, backoff_cap_seconds=60)
        self.queues: list[Queue] = []
        self.jobs: list[str] = []
        self.logs: dict[str, list[bytes]] = {}
        self.ended_well: dict[str, int] = {}

    @initialize()
    def start(self) -> None:
        self.queues = [self.world.worker(f"w{number}") for number in range(WORKERS)]

    # What may be done.

    @rule(name=st.sampled_from(["one", "two"]))
    def submit(self, name: str) -> None:
        if len(self.jobs) < 4:
            job_id = self._try(lambda: self.world.worker("person").submit(f"name: {name}\n".encode(), name))
            if job_id:
                self.jobs.append(job_id)

    @rule(seconds=st.sampled_from([1, 14, 29, 45, 400]))
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds)

    @rule(target=leases, worker=st.integers(0, WORKERS - 1))
    def poll(self, worker: int) -> object:
        lease = self._try(lambda: self.queues[worker].poll(validate))
        return lease if lease else multiple()

    @rule(target=leases, worker=st.integers(0, WORKERS - 1))
    def watch_until_something_is_lost(self, worker: int) -> object:
        lease = self._try(lambda: self.world.watch(self.queues[worker]))
        return lease if lease else multiple()

    @rule(worker=st.integers(0, WORKERS - 1))
    def worker_restarts(self, worker: int) -> None:
        self.queues[worker] = self.world.worker(f"w{worker}")

    @rule(lease=leases, images=st.integers(0, 1000))
    def beat(self, lease: Lease, images: int) -> None:
        prefix = f"{lease.attempt_prefix.split('/', 2)[2]}/checkpoints/{images:09d}"
        checkpoint = Checkpoint(prefix=prefix, images=images, manifest_sha256="0" * 64)
        self._try(lambda: lease.beat(Progress(images=images, checkpoint=checkpoint)))

    @rule(lease=leases, how=st.sampled_from(["drain", "preempted", "fail", "diverge", "succeed", "stop"]))
    def end(self, lease: Lease, how: str) -> None:
        state = self._try(lambda: self._ends(lease)[how]())
        if isinstance(state, JobState) and state.status == "succeeded":
            self.ended_well.setdefault(lease.id, lease.epoch)
            assert self.ended_well[lease.id] == lease.epoch, "two attempts believe that they succeeded"

    def _ends(self, lease: Lease) -> dict[str, Callable[[], JobState]]:
        return {
            "drain": lambda: lease.release("drain"),
            "preempted": lambda: lease.release("preempted"),
            "fail": lambda: lease.fail(Failure.of("killed", "signal 9")),
            "diverge": lambda: lease.fail(Failure.of("diverged", "NaN")),
            "succeed": lambda: lease.succeed(()),
            "stop": lease.stop,
        }

    @rule(lease=consumes(leases))
    def worker_forgets_its_lease(self, lease: Lease) -> None:
        """SIGKILL."""

    @rule(data=st.data(), what=st.sampled_from(["cancel", "pause", "resume", "retry", "prioritise"]))
    def person(self, data: st.DataObject, what: str) -> None:
        if self.jobs:
            job_id = data.draw(st.sampled_from(self.jobs))
            queue = self.world.worker("person")
            priority = data.draw(st.integers(0, 99)) if what == "prioritise" else 0
            acts = {"prioritise": lambda: queue.prioritise(job_id, priority)}
            self._try(acts.get(what, lambda: getattr(queue, what)(job_id)))

    @rule(
        when=st.sampled_from(["fail_before", "fail_after"]),
        request=st.sampled_from(["create jobs/", "put ", "delete ", "get jobs/", "list ", "stat gc/"]),
        times=st.integers(1, 6),
    )
    def the_store_fails(self, when: str, request: str, times: int) -> None:
        getattr(self.world.store, when).extend([request] * times)

    @rule()
    def the_store_recovers(self) -> None:
        self.world.store.fail_before.clear()
        self.world.store.fail_after.clear()

    def _try(self, act: Callable[[], object]) -> object:
        """What a caller may meet, and nothing else."""
        try:
            return act()
        except (Unavailable, Fenced, NotPossible):
            return None
        except Exception as error:
            assert type(error).__name__ == "JobNotFound", repr(error)
            return None

    # What holds at every moment.

    @invariant()
    def logs_only_grow(self) -> None:
        for job_id in self.jobs:
            log = self._raw_log(job_id)
            before = self.logs.get(job_id, [])
            assert log[: len(before)] == before
            self.logs[job_id] = log

    @invariant()
    def every_entry_follows_the_rules(self) -> None:
        for job_id in self.jobs:
            entries = [Entry.model_validate_json(data) for data in self._raw_log(job_id)]
            for before, entry in pairwise(entries):
                self._check_step(before.state, entry)

    @invariant()
    def an_unfinished_job_has_a_hint(self) -> None:
        hints = [*self._keys(keys.READY), *self._keys(keys.ACTIVE), *self._keys(keys.PAUSED), *self._keys(keys.INBOX)]
        for job_id in self.jobs:
            log = self._raw_log(job_id)
            if not log or not Entry.model_validate_json(log[-1]).state.terminal:
                assert any(job_id in hint for hint in hints), f"{job_id} is lost to everybody"

    def _check_step(self, before: JobState, entry: Entry) -> None:
        state = entry.state
        if before.terminal:
            assert entry.kind in ("revive", "prune")
            assert before.status != "succeeded"
        if entry.kind in ("claim", "take_over") and state.status == "claimed":
            assert state.epoch == entry.index
            assert state.attempts == before.attempts + 1
            assert before.status == ("queued" if entry.kind == "claim" else "claimed")
        else:
            assert state.epoch == before.epoch
        if entry.kind in ("release", "fail") or state.status == "succeeded":
            assert before.status == "claimed"
            assert entry.writer == before.worker
        if state.resume_from and state.resume_from != before.resume_from:
            assert state.resume_from.prefix.startswith(f"attempts/{before.epoch:08d}/")

    def _raw_log(self, job_id: str) -> list[bytes]:
        store = self.world.store
        return [store._objects[key][0] for key in self._keys(keys.log_folder(job_id))]

    def _keys(self, prefix: str) -> list[str]:
        return [key for key in self.world.store._keys if key.startswith(prefix)]

    def teardown(self) -> None:
        """With the store back and patient workers, every job ends, and all hints agree with the logs."""
        self.the_store_recovers()
        person = self.world.worker("person")
        for _ in range(60):
            for job_id in self.jobs:
                self._try(lambda job_id=job_id: person.resume(job_id))
            for queue in self.queues:
                self._drain(queue)
            self.world.later(35)
            if not (self._keys(keys.INBOX) or self._keys(keys.READY) or self._keys(keys.ACTIVE)):
                break
        for job_id in self.jobs:
            assert person.job(job_id).state.terminal, f"{job_id} never ended"
        assert self._keys(keys.READY) == self._keys(keys.ACTIVE) == []

    def _drain(self, queue: Queue) -> None:
        try:
            queue.repair()
            if lease := queue.poll(validate):
                lease.stop() if lease.state.cancel else lease.succeed(())
        except (StoreError, Fenced, NotPossible):
            return


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
