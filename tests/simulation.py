"""A deterministic simulation of the queue: the real code of service/queue, a store that fails, and a clock that jumps.

    python -m tests.simulation --schedules 10000 --seed 0        # any number of schedules, on all cores
    python -m tests.simulation --seed 4711 --trace               # replay one, request by request
    python -m tests.simulation --mutation no_nonce               # how many seeds until a broken variant is caught

Every process is a greenlet. A request to the store is two switches: one before it takes effect, one before its answer
arrives; in between anybody else may act. All chance comes from one seed, so a seed replays bit for bit. Faults: lost
requests, lost answers, requests that arrive minutes later, stalled commits, killed and restarted processes, frozen
processes, partitions of one worker, outages of the store; people cancel, pause, prioritise and retry meanwhile.

What must hold (`Auditor`): nobody writes a log entry twice; only the owner of the last claim commits; one success a
job; every process knows whether its commit stands; committed files are the committer's; no live owner is taken over
because the store was away; after the faults every job ends, is published, and leaves no hint behind; what everybody
saw of a job's log is linearizable.
"""

import argparse
import hashlib
import heapq
import sys
import time
import zlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from unittest.mock import patch

from greenlet import GreenletExit, getcurrent, greenlet

from jobs.errors import StoreError
from service.queue import (
    Budgets,
    Checkpoint,
    Entry,
    Failure,
    Fenced,
    JobState,
    Lease,
    NotPossible,
    OutputFile,
    Progress,
    Queue,
    QueueSettings,
    SpecFacts,
    keys,
)
from service.queue.log import JobLog
from service.queue.watch import Watch, Watcher
from service.store import MemoryStore, Stat, Unavailable
from tests.linearizability import check_log_history
from tests.recorded_log import Operations, record

EPOCH_SECONDS = 1_800_000_000.0  # the store's clock at the beginning
FAULTS_SECONDS = 2400.0  # how long things go wrong
END_SECONDS = FAULTS_SECONDS + 6 * 3600.0  # by then every job must have ended
LEAST_SILENCE_SECONDS = 25.0  # an owner that had so long to beat, and did not, may be taken over
SETTINGS = QueueSettings()
CHUNK_SECONDS = 15.0  # of training between two beats


class Violation(AssertionError):
    """The protocol broke a promise."""


# The world: time, processes, chance.


@dataclass
class Process:
    """A greenlet with a clock of its own, that can be frozen, cut off and killed."""

    name: str
    run: Callable[["Process"], None]
    random: Random
    clock_offset_seconds: float
    frozen_until: float = 0.0
    cut_off_until: float = 0.0
    alive: bool = True
    holds: set[tuple[str, int]] = field(default_factory=set)
    """(job, epoch) of the leases it believes in."""


class World:
    """Seeded time: runs the process whose moment comes first."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.fingerprint = 0
        self.trace: list[str] | None = [] if trace else None
        self.outages: list[tuple[float, float]] = []
        self.steps = 0
        self._events: list[tuple[float, int, Process | None, greenlet | Callable[[], None]]] = []
        self._serial = 0
        self._hub = getcurrent()
        self._current: dict[greenlet, Process] = {}

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Call `act` outside of any process."""
        self._push(moment, None, act)

    def start(self, process: Process, delay_seconds: float = 0.0) -> None:
        worker = greenlet(lambda: process.run(process), parent=self._hub)
        self._current[worker] = process
        self._push(self.now + delay_seconds, process, worker)

    def sleep(self, seconds: float) -> None:
        """Called inside a process: others run meanwhile."""
        me = getcurrent()
        process = self._current[me]
        self._push(self.now + seconds, process, me)
        self._hub.switch()

    def run(self, until: Callable[[], bool]) -> None:
        """Until `until()`, asked between steps, or the end of time."""
        while self._events and not until():
            moment, _, process, what = heapq.heappop(self._events)
            if process is not None and process.alive and process.frozen_until > moment:
                self._push(process.frozen_until, process, what)
                continue
            self.now = max(self.now, moment)
            if self.now > END_SECONDS:
                return
            self._step(process, what)

    def _step(self, process: Process | None, what: "greenlet | Callable[[], None]") -> None:
        self.steps += 1
        if not isinstance(what, greenlet):
            what()
        elif process is not None and not process.alive:
            self._current.pop(what, None)
            what.throw(GreenletExit)  # a killed process: nothing of it runs any more
        else:
            what.switch()
            if what.dead:
                self._current.pop(what, None)

    def close(self) -> None:
        """End what still sleeps, so that no greenlet outlives its world."""
        self._events.clear()
        for worker, process in list(self._current.items()):
            process.alive = False
            worker.throw(GreenletExit)
        self._current.clear()

    def is_out(self) -> bool:
        return any(begin <= self.now < end for begin, end in self.outages)

    def outage_seconds(self, begin: float, end: float) -> float:
        """How much of an interval the store was away."""
        return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in self.outages)

    def note(self, *what: object) -> None:
        """Into the fingerprint, and into the trace when there is one."""
        line = " ".join(map(str, what))
        self.fingerprint = zlib.crc32(line.encode(), self.fingerprint)
        if self.trace is not None:
            self.trace.append(f"{self.now:10.3f} {line}")

    def _push(self, moment: float, process: Process | None, what: "greenlet | Callable[[], None]") -> None:
        self._serial += 1
        heapq.heappush(self._events, (moment, self._serial, process, what))


class SimClock:
    """A process's own monotonic clock: the same pace for all, another zero for each."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def monotonic(self) -> float:
        return self._world.now + self._process.clock_offset_seconds

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


# The store: memory behind a network.


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong, a request."""

    lost_request: float = 0.01
    lost_answer: float = 0.02
    late_request: float = 0.005
    stalled_append: float = 0.05
    ignores_condition: bool = False


NO_FAULTS = Faults(0.0, 0.0, 0.0, 0.0)


class SimStore:
    """What one process sees of the store: latency, loss, partition, outage."""

    url = "simulated:"
    settle_seconds = 0.0

    def __init__(self, simulation: "Simulation", process: Process) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._process = process
        self._memory = simulation.memory

    def get(self, key: str) -> bytes:
        return self._request("get", key, lambda: self._memory.get(key))

    def read(self, key: str) -> tuple[bytes, Stat]:
        return self._request("read", key, lambda: self._memory.read(key))

    def put(self, key: str, data: bytes) -> None:
        return self._request("put", key, lambda: self._memory.put(key, data))

    def create(self, key: str, data: bytes) -> bool:
        return self._request("create", key, lambda: self._create(key, data))

    def delete(self, key: str) -> None:
        return self._request("delete", key, lambda: self._memory.delete(key))

    def stat(self, key: str) -> Stat | None:
        return self._request("stat", key, lambda: self._memory.stat(key))

    def list(self, prefix: str, *, limit: int | None = None, start_after: str = "") -> Iterator[Stat]:
        return self._request("list", prefix, lambda: self._memory.list(prefix, limit=limit, start_after=start_after))

    def copy(self, source: str, target: str) -> None:
        return self._request("copy", source, lambda: self._memory.copy(source, target))

    def server_time_seconds(self) -> float:
        return EPOCH_SECONDS + self._world.now

    def _create(self, key: str, data: bytes) -> bool:
        if self._simulation.faults.ignores_condition:
            self._memory.put(key, data)
            created = True
        else:
            created = self._memory.create(key, data)
        if created and "/log/" in key:
            self._simulation.auditor.appended(key, data)
        return created

    def _request(self, operation: str, key: str, effect: Callable[[], object]):
        world, random, faults = self._world, self._process.random, self._simulation.faults
        self._travel(random, stalled=operation == "create" and "/log/" in key)
        chance = random.random()
        if world.is_out() or self._process.cut_off_until > world.now or chance < faults.lost_request:
            self._fail(operation, key, "lost")
        chance -= faults.lost_request
        if chance < faults.late_request and operation in ("put", "create", "delete"):
            world.at(world.now + random.uniform(1, 300), lambda: self._arrive_late(operation, key, effect))
            self._fail(operation, key, "late")
        answer = self._take_effect(operation, key, effect)
        world.sleep(random.uniform(0.001, 0.05))
        if chance - faults.late_request < faults.lost_answer or world.is_out():
            self._fail(operation, key, "unanswered")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _travel(self, random: Random, *, stalled: bool) -> None:
        """The way to the store; now and then an append is on it for minutes."""
        if stalled and random.random() < self._simulation.faults.stalled_append:
            self._world.sleep(random.uniform(100, 600))
        self._world.sleep(random.uniform(0.001, 0.05))

    def _take_effect(self, operation: str, key: str, effect: Callable[[], object]) -> object:
        try:
            answer = effect()
        except StoreError as error:
            answer = error
        self._world.note(self._process.name, operation, key, type(answer).__name__, answer is False)
        self._simulation.auditor.saw(self._process, operation, key)
        return answer

    def _arrive_late(self, operation: str, key: str, effect: Callable[[], object]) -> None:
        if self._world.is_out():
            return
        self._take_effect(operation, key, effect)

    def _fail(self, operation: str, key: str, how: str) -> None:
        self._world.note(self._process.name, operation, key, how)
        self._world.sleep(self._process.random.uniform(1, 10))
        raise Unavailable(f"{key}: {operation} {how}")


# What must hold.


class Auditor:
    """Sees every effect as it happens, knows every belief, and compares them with the promises."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._entries: dict[str, bytes] = {}
        self._beats: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._read_heartbeats: dict[tuple[str, str], float] = {}
        self.operations: Operations = defaultdict(list)
        self.take_overs = 0
        self.fenced = 0

    def appended(self, key: str, data: bytes) -> None:
        """A create of a log entry took effect."""
        if key in self._entries:
            raise Violation(f"{key}: a log entry was overwritten")
        self._entries[key] = data
        entry = Entry.model_validate_json(data)
        if entry.kind in ("claim", "take_over"):
            self._beats[entry.state.id, entry.index].append(self._simulation.world.now)

    def saw(self, process: Process, operation: str, key: str) -> None:
        """A request took effect."""
        if "/hb/" not in key:
            return
        _, job_id, _, name = key.split("/")
        if operation == "put":
            self._beats[job_id, int(name[:8])].append(self._simulation.world.now)
        else:
            self._read_heartbeats[process.name, job_id] = self._simulation.world.now

    def takes_over(self, process: Process, watch: Watch) -> None:
        """A watcher decided that an owner is lost: not because the store was away, and not while it beats."""
        self.take_overs += 1
        state = watch.head.state
        decided = self._read_heartbeats.get((process.name, state.id), self._simulation.world.now)
        beats = self._beats[state.id, state.epoch]
        earlier = bisect_right(beats, decided)
        last = beats[earlier - 1] if earlier else 0.0
        silent = decided - last - self._simulation.world.outage_seconds(last, decided)
        if silent < LEAST_SILENCE_SECONDS and self._is_held(state):
            raise Violation(f"{state.id}: {process.name} takes over a living owner after {silent:.0f} s of its silence")

    def _is_held(self, state: JobState) -> bool:
        return any((state.id, state.epoch) in process.holds for process in self._simulation.processes if process.alive)

    def holds(self, lease: Lease) -> None:
        """A process believes that it owns a job: the log must say the same."""
        entry = self._entry(lease.id, lease.epoch)
        if entry is None or entry.state.epoch != lease.epoch or entry.state.worker != lease.state.worker:
            raise Violation(f"{lease.id}: {lease.state.worker} believes in a claim at {lease.epoch} that is not there")

    def committed(self, lease: Lease, state: JobState) -> None:
        """A process believes that it ended its attempt as `state` says."""
        entry = self._entry(lease.id, state.marker_index)
        if entry is None or entry.state != state:
            raise Violation(f"{lease.id}: {lease.state.worker} believes in an end that is not in the log")

    def was_fenced(self, lease: Lease) -> None:
        """A process believes that its attempt does not count."""
        self.fenced += 1
        if any(entry.nonce == lease._nonce for entry in self._log(lease.id)):
            raise Violation(f"{lease.id}: {lease.state.worker} committed and believes that it lost")

    def final_check(self) -> None:
        """Everything is quiet: every job, every file, every hint."""
        memory = self._simulation.memory
        found = {stat.key for stat in memory.list("")}
        states = []
        for job_id in sorted({key.split("/")[1] for key in found if key.startswith("jobs/")}):
            states.append(self._check_log(job_id))
        self._check_submissions(states)
        hints = {key for key in found if key.startswith((keys.READY, keys.ACTIVE, keys.PAUSED, keys.DONE))}
        expected = {keys.marker(state) for state in states}
        earlier_ends = {keys.marker(e.state) for state in states for e in self._log(state.id) if e.state.terminal}
        if missing := expected - hints:
            raise Violation(f"hints that are missing: {sorted(missing)}")
        announced = {key for key in hints if self._simulation.is_announcement(key)}
        if left := hints - expected - earlier_ends - announced:
            raise Violation(f"hints that are left: {sorted(left)}")
        for state in states:
            self._check_files(state)
            if problem := check_log_history(self.operations[state.id]):
                raise Violation(f"{state.id}: the history is not linearizable: {problem}")

    def _check_submissions(self, states: list[JobState]) -> None:
        jobs = sorted(state.id for state in states)
        if jobs != sorted(self._simulation.submitted):
            raise Violation(f"submitted {sorted(self._simulation.submitted)}, found {jobs}")
        if left := [stat.key for stat in self._simulation.memory.list(keys.INBOX)]:
            raise Violation(f"left in the inbox: {left}")

    def _check_log(self, job_id: str) -> JobState:
        """Each entry follows from the one before by the rules."""
        log = self._log(job_id)
        owner, epoch, attempts, successes = "", 0, 0, 0
        for before, entry in zip([None, *log], log, strict=False):
            if before and before.state.terminal and entry.kind not in ("revive", "prune"):
                raise Violation(f"{job_id}: {entry.kind} at {entry.index} after the end")
            if entry.state.status == "claimed" and entry.kind in ("claim", "take_over"):
                owner, epoch, attempts = entry.writer, entry.index, attempts + 1
            is_end = entry.kind in ("release", "fail") or entry.state.status == "succeeded"
            if is_end and (entry.writer, entry.state.epoch) != (owner, epoch):
                raise Violation(f"{job_id}: {entry.kind} at {entry.index} by {entry.writer}, the owner is {owner}")
            successes += entry.state.status == "succeeded"
        state = log[-1].state
        if not state.terminal:
            raise Violation(f"{job_id}: never ended; it is {state.status}")
        if successes > 1 or state.attempts != attempts:
            raise Violation(f"{job_id}: {successes} successes, {attempts} claims, {state.attempts} attempts counted")
        return state

    def _check_files(self, state: JobState) -> None:
        memory = self._simulation.memory
        if state.status == "succeeded" and not memory.stat(f"{keys.results(state)}/_SUCCESS"):
            raise Violation(f"{state.id}: succeeded and is not published")
        if state.status in ("failed", "dead") and not memory.stat(keys.dead_card(state.id)):
            raise Violation(f"{state.id}: {state.status} without a dead letter")
        for file in state.files:
            for folder in (state.attempt_prefix, keys.results(state)):
                content = memory.get(f"{folder}/{file.path}")
                if hashlib.sha256(content).hexdigest() != file.sha256:
                    raise Violation(f"{folder}/{file.path}: is not what attempt {state.epoch} committed: {content!r}")

    def _entry(self, job_id: str, index: int) -> Entry | None:
        data = self._entries.get(keys.log_entry(job_id, index))
        return Entry.model_validate_json(data) if data else None

    def _log(self, job_id: str) -> list[Entry]:
        log = []
        while entry := self._entry(job_id, len(log) + 1):
            log.append(entry)
        return log


class SimQueue(Queue):
    """The real queue; it only tells the auditor when it takes over."""

    simulation: "Simulation"
    process: Process

    def _take_over(self, watch: Watch) -> Lease | None:
        self.simulation.auditor.takes_over(self.process, watch)
        return super()._take_over(watch)


# The processes.


class Simulation:
    """One schedule."""

    def __init__(self, seed: int, *, faults: Faults | None = None, trace: bool = False) -> None:
        self.world = World(seed, trace=trace)
        self.faults = faults or Faults()
        self.memory = MemoryStore(time_seconds=lambda: EPOCH_SECONDS + self.world.now)
        self.auditor = Auditor(self)
        self.processes: list[Process] = []
        self.submitted: list[str] = []
        self.jobs = self.world.random.randint(2, 4)
        self.workers = self.world.random.randint(2, 4)

    def run(self) -> None:
        """Play the schedule. Raises Violation."""
        for number in range(self.workers):
            self._start_worker(number, self.world.random.uniform(0, 30))
        self._start("submitter", self._submit)
        self._start("person", self._interfere)
        self._plan_faults()
        self.world.at(FAULTS_SECONDS, self._heal)
        try:
            self.world.run(self._is_quiet)
            self.auditor.final_check()
        finally:
            self.world.close()

    def _start(self, name: str, run: Callable[[Process], None]) -> None:
        random = Random(self.world.random.getrandbits(64))
        process = Process(name, run, random, random.uniform(0, 1e6))
        self.processes.append(process)
        self.world.start(process, random.uniform(0, 5))

    def _start_worker(self, number: int, delay_seconds: float) -> None:
        self.world.at(self.world.now + delay_seconds, lambda: self._start(f"worker-{number}", self._work))

    def _plan_faults(self) -> None:
        """Kills, freezes, partitions for each worker, and an outage for all."""
        random = self.world.random
        if random.random() < 0.6:
            begin = random.uniform(60, FAULTS_SECONDS - 900)
            self.world.outages.append((begin, begin + random.uniform(100, 700)))
        for number in range(self.workers):
            name = f"worker-{number}"
            for _ in range(random.randint(1, 5)):
                moment = random.uniform(30, FAULTS_SECONDS)
                what = random.choice((self._kill, self._freeze, self._cut_off))
                self.world.at(moment, lambda what=what, name=name: what(name))

    def _living(self, name: str) -> Process | None:
        return next((process for process in self.processes if process.alive and process.name == name), None)

    def _kill(self, name: str) -> None:
        """SIGKILL; the same name comes back as a new process."""
        if process := self._living(name):
            process.alive = False
            process.holds.clear()
            self.world.note("kill", name)
            self._start_worker(int(name[-1]), self.world.random.uniform(5, 400))

    def _freeze(self, name: str) -> None:
        if process := self._living(name):
            process.frozen_until = self.world.now + self.world.random.uniform(20, 900)
            self.world.note("freeze", name)

    def _cut_off(self, name: str) -> None:
        if process := self._living(name):
            process.cut_off_until = self.world.now + self.world.random.uniform(20, 900)
            self.world.note("cut off", name)

    def _heal(self) -> None:
        """From here on nothing new goes wrong; what is under way runs out."""
        self.faults = Faults(0.0, 0.0, 0.0, 0.0, self.faults.ignores_condition)
        self.world.outages = [(begin, min(end, FAULTS_SECONDS)) for begin, end in self.world.outages]

    def _is_quiet(self) -> bool:
        """All jobs ended, and no hint says otherwise: asked now and then, since it looks at the whole store."""
        if self.world.steps % 50 or self.world.now < FAULTS_SECONDS or len(self.submitted) < self.jobs:
            return False
        open_hints = (
            s.key for prefix in (keys.READY, keys.ACTIVE, keys.PAUSED, keys.INBOX) for s in self.memory.list(prefix)
        )
        if not all(self.is_announcement(key) for key in open_hints):
            return False
        done = sum(1 for _ in self.memory.list(keys.DONE))
        held = any(process.alive and process.holds for process in self.processes)
        return done == self.jobs and not held

    def is_announcement(self, key: str) -> bool:
        """A hint of an entry that its writer did not live to append: it is forgotten after a day."""
        marker = keys.parse_marker(key)
        return bool(marker) and not self.memory.stat(keys.log_entry(marker.job_id, marker.index))

    def _queue(self, process: Process) -> SimQueue:
        store = SimStore(self, process)
        clock = SimClock(self.world, process)
        queue = SimQueue(store, worker_id=process.name, settings=SETTINGS, clock=clock, random=process.random)
        record(queue, now=lambda: self.world.now, operations=self.auditor.operations)
        queue.simulation, queue.process = self, process
        return queue

    def _submit(self, process: Process) -> None:
        """Specs arrive over the first minutes."""
        queue = self._queue(process)
        for number in range(self.jobs):
            self.world.sleep(process.random.uniform(0, 200))
            content = f"job {number}".encode()
            job_id = keys.job_id(EPOCH_SECONDS + self.world.now, content)
            key = f"{keys.INBOX}job-{number}.{job_id}.yaml"
            self._persist(lambda key=key, content=content: queue.store.put(key, content))
            self.submitted.append(job_id)

    def _persist(self, act: Callable[[], object]) -> None:
        """Until it works."""
        while True:
            try:
                act()
                return
            except StoreError:
                self.world.sleep(5)

    def _interfere(self, process: Process) -> None:
        """A person cancels, pauses, prioritises and retries; after the faults they resume everything."""
        queue, random = self._queue(process), process.random
        while self.world.now < FAULTS_SECONDS:
            self.world.sleep(random.uniform(20, 300))
            if self.submitted:
                self._interfere_with(queue, random.choice(self.submitted), random)
        while True:
            self.world.sleep(120)
            for job_id in self.submitted:
                self._quietly(lambda job_id=job_id: queue.resume(job_id))

    def _interfere_with(self, queue: Queue, job_id: str, random: Random) -> None:
        acts = [
            (6, lambda: queue.prioritise(job_id, random.randrange(100))),
            (3, lambda: queue.pause(job_id)),
            (3, lambda: queue.resume(job_id)),
            (2, lambda: queue.cancel(job_id)),
            (2, lambda: queue.retry(job_id, from_checkpoint=random.random() < 0.5)),
        ]
        act = random.choices([act for _, act in acts], [weight for weight, _ in acts])[0]
        self._quietly(act)

    def _quietly(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (StoreError, NotPossible):
            return
        except Exception as error:
            if type(error).__name__ != "JobNotFound":
                raise

    def _work(self, process: Process) -> None:
        """A worker, as service/worker.py is one: poll, run, repeat."""
        queue = self._queue(process)
        while True:
            try:
                lease = queue.poll(validate)
            except StoreError:
                self.world.sleep(process.random.uniform(5, 15))
                continue
            if lease is None:
                self.world.sleep(queue.next_poll_seconds())
                continue
            held = (lease.id, lease.epoch)
            process.holds.add(held)
            self.auditor.holds(lease)
            Attempt(self, process, queue, lease).run()
            process.holds.discard(held)


def validate(content: bytes, name: str) -> SpecFacts:
    """Job n takes longer than job n-1; tight budgets, so that they run out now and then."""
    number = int(content.split()[-1])
    budgets = Budgets(max_failures=3, max_lost=2 + number, max_interruptions=4)
    return SpecFacts(name=f"job-{number}", priority=50 + number % 2, budgets=budgets)


class Attempt:
    """What a supervisor does with a lease: train, upload, beat, end."""

    def __init__(self, simulation: Simulation, process: Process, queue: Queue, lease: Lease) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._process = process
        self._random = process.random
        self._store = queue.store
        self._lease = lease
        self._images = lease.resume_from.images if lease.resume_from else 0
        self._total = 15 * (6 + int(lease.state.name[-1]) * 10)  # one image a second: 1.5 to 9 minutes
        self._checkpoint: Checkpoint | None = None

    def run(self) -> None:
        try:
            end = self._train()
            self._finish(end)
        except Fenced:
            self._simulation.auditor.was_fenced(self._lease)

    def _train(self) -> Callable[[], JobState]:
        """Until it is over; how to say so."""
        while self._images < self._total:
            self._world.sleep(CHUNK_SECONDS * self._random.uniform(0.9, 1.1))
            self._images += int(CHUNK_SECONDS)
            self._upload()
            if end := self._beat() or self._trouble():
                return end
        files = (self._put_output(),)
        return lambda: self._lease.succeed(files)

    def _upload(self) -> None:
        """A report that is overwritten, and now and then a checkpoint that is not."""
        try:
            self._put_output()
            if self._random.random() < 0.4:
                prefix = f"{self._lease.attempt_prefix}/checkpoints/{self._images:09d}"
                manifest = f"{self._lease.epoch} {self._process.name}".encode()
                self._store.put(f"{prefix}/MANIFEST.json", manifest)
                relative = prefix.split("/", 2)[2]
                digest = hashlib.sha256(manifest).hexdigest()
                self._checkpoint = Checkpoint(prefix=relative, images=self._images, manifest_sha256=digest)
        except Unavailable:
            return  # the spool tries again later; training goes on

    def _put_output(self) -> OutputFile:
        content = f"{self._lease.id} {self._lease.epoch} {self._lease._nonce}".encode()
        key = f"{self._lease.attempt_prefix}/report.json"
        self._simulation._persist(lambda: self._store.put(key, content))
        return OutputFile(path="report.json", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def _beat(self) -> Callable[[], JobState] | None:
        """What the state asks for; the store being away is no reason to stop."""
        try:
            state = self._lease.beat(Progress(images=self._images, checkpoint=self._checkpoint))
        except Unavailable:
            return None
        if state.cancel:
            return lambda: self._lease.stop(checkpoint=self._checkpoint)
        if state.pause:
            return lambda: self._lease.release("paused", checkpoint=self._checkpoint)
        return None

    def _trouble(self) -> Callable[[], JobState] | None:
        chance = self._random.random()
        if self._world.now > FAULTS_SECONDS or chance > 0.03:
            return None
        if chance < 0.01:
            return lambda: self._lease.release("drain", checkpoint=self._checkpoint)
        failure = Failure.of("diverged" if chance < 0.012 else "killed", "simulated")
        return lambda: self._lease.fail(failure, checkpoint=self._checkpoint)

    def _finish(self, end: Callable[[], JobState]) -> None:
        """An end is repeated until it is known to stand, or to be fenced."""
        while True:
            try:
                self._simulation.auditor.committed(self._lease, end())
                return
            except NotPossible:
                return  # a cancel was withdrawn in between
            except StoreError:
                self._world.sleep(self._random.uniform(2, 10))


# The broken variants: each must be caught.


@contextmanager
def mutation(name: str) -> Iterator[Faults]:
    """Break the protocol in one way; the faults to run with."""

    def old_heartbeat(watcher: Watcher, watch: Watch) -> bool:
        state = watch.head.state
        stat = watcher._store.stat(keys.heartbeat(state.id, state.epoch))
        since = stat.modified_seconds if stat else state.claimed_seconds
        return watcher._store.server_time_seconds() - since > SETTINGS.ttl_seconds

    match name:
        case "age_based":
            with patch.object(Watcher, "_is_lost", old_heartbeat):
                yield Faults()
        case "no_nonce":
            with (
                patch.object(JobLog, "_is_mine", lambda self, found, data: False),
                patch.object(Lease, "_is_mine", lambda self, head: False),
            ):
                yield Faults()
        case "fixed_output":
            fixed = property(lambda state: f"jobs/{state.id}/attempts/output")
            with patch.object(JobState, "attempt_prefix", fixed):
                yield Faults()
        case "ignored_condition":
            yield Faults(ignores_condition=True)
        case _:
            raise ValueError(name)


MUTATIONS = ("age_based", "no_nonce", "fixed_output", "ignored_condition")


@dataclass(frozen=True)
class Outcome:
    """Of one schedule."""

    seed: int
    violation: str | None
    fingerprint: int
    steps: int
    take_overs: int
    fenced: int


def simulate(seed: int, faults: Faults | None = None) -> Outcome:
    """Play one schedule."""
    simulation = Simulation(seed, faults=faults)
    violation = None
    try:
        simulation.run()
    except Violation as error:
        violation = str(error)
    auditor = simulation.auditor
    return Outcome(
        seed, violation, simulation.world.fingerprint, simulation.world.steps, auditor.take_overs, auditor.fenced
    )


def seeds_until_caught(name: str, limit: int = 200) -> int | None:
    """How many seeds a broken variant survives; None when it survives all."""
    with mutation(name) as faults:
        return next((seed + 1 for seed in range(limit) if simulate(seed, faults).violation), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trace", action="store_true", help="print every request of the first schedule")
    parser.add_argument("--mutation", choices=MUTATIONS)
    options = parser.parse_args()
    if options.mutation:
        caught = seeds_until_caught(options.mutation, options.schedules if options.schedules > 1 else 200)
        print(f"{options.mutation}: caught after {caught} seeds" if caught else f"{options.mutation}: not caught")
        sys.exit(0 if caught else 1)
    if options.trace:
        simulation = Simulation(options.seed, trace=True)
        try:
            simulation.run()
        finally:
            print(*simulation.world.trace, sep="\n")
        return
    sys.exit(_many(options.schedules, options.seed))


def _many(schedules: int, first: int) -> int:
    started = time.monotonic()
    broken = take_overs = fenced = steps = 0
    with ProcessPoolExecutor() as pool:
        for outcome in pool.map(simulate, range(first, first + schedules), chunksize=20):
            take_overs += outcome.take_overs
            fenced += outcome.fenced
            steps += outcome.steps
            if outcome.violation:
                broken += 1
                print(f"seed {outcome.seed}: {outcome.violation}")
    seconds = time.monotonic() - started
    print(
        f"{schedules} schedules from seed {first}: {broken} violations, {take_overs} take-overs, {fenced} fenced "
        f"attempts, {steps} steps, {seconds:.0f} s"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    main()
