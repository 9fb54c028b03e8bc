"""Who is lost, and who only seems to be."""

import pytest

from service.queue import Fenced, Lease, Progress, Queue, keys
from service.queue.watch import PAGE
from service.store import StoreRefused, Unavailable
from tests.queue_world import World, beat


@pytest.fixture
def world() -> World:
    return World()


def lost(queue: Queue) -> list[str]:
    return [watch.head.state.id for watch in queue.observe()]


def test_a_silent_worker_is_lost_after_the_ttl(world: World) -> None:
    lease = world.claimed()
    beat(lease)
    watcher = world.worker("w2")
    for seconds in (0, 30, 60):
        assert lost(watcher) == [], seconds
        world.later(30)
    assert lost(watcher) == [lease.id]
    assert watcher.suspects == [lease.id]


def test_a_worker_that_never_beat_is_lost_too(world: World) -> None:
    lease = world.claimed()
    owner = world.watch(world.worker("w2"))
    assert owner is not None
    assert (owner.id, owner.state.lost, owner.state.attempts) == (lease.id, 1, 2)


def test_a_beating_worker_is_never_lost(world: World) -> None:
    lease = world.claimed()
    watcher = world.worker("w2")
    for _ in range(100):
        beat(lease)
        world.later(15)
        assert lost(watcher) == []
        assert watcher.suspects == []


def test_the_age_of_a_heartbeat_says_nothing(world: World) -> None:
    """After an hour without a store every heartbeat is an hour old, and every owner alive."""
    lease = world.claimed()
    beat(lease)
    watcher = world.worker("w2")
    assert lost(watcher) == []
    world.store.down = True
    for _ in range(120):
        world.later(30)
        with pytest.raises(Unavailable):
            watcher.observe()
    world.store.down = False
    assert lost(watcher) == []
    beat(lease)
    world.later(60)
    assert lost(watcher) == []


def test_one_failed_read_starts_the_window_afresh(world: World) -> None:
    lease = world.claimed()
    watcher = world.worker("w2")
    for _ in range(3):
        assert lost(watcher) == []
        world.later(29)
    world.store.fail_before = ["get jobs/"]
    with pytest.raises(Unavailable):
        watcher.observe()
    for _ in range(4):
        assert lost(watcher) == []
        world.later(29)
    assert lost(watcher) == [lease.id]


def test_a_watcher_that_slept_starts_afresh(world: World) -> None:
    """It was stopped and woken: what it did not see may have been an outage for everybody."""
    lease = world.claimed()
    watcher = world.worker("w2")
    lost(watcher)
    world.later(30)
    lost(watcher)
    world.later(600)
    assert lost(watcher) == []
    for _ in range(3):
        world.later(30)
        found = lost(watcher)
    assert found == [lease.id]


def test_two_reads_are_not_enough(world: World) -> None:
    world.claimed()
    watcher = world.worker("w2")
    for seconds in (0, 59):
        world.later(seconds)
        assert lost(watcher) == []


def test_amendments_by_people_are_no_sign_of_life(world: World) -> None:
    lease = world.claimed()
    watcher = world.worker("w2")
    for priority in range(3):
        assert lost(watcher) == []
        world.worker("person").prioritise(lease.id, priority)
        world.later(30)
    assert lost(watcher) == [lease.id]
    owner = watcher.take_over()
    assert owner is not None
    assert owner.state.priority == 2


def test_of_many_watchers_one_takes_over(world: World) -> None:
    lease = world.claimed()
    watchers = [world.worker(f"w{number}") for number in range(2, 7)]
    for _ in range(4):
        seen = [watcher.observe() for watcher in watchers]
        world.later(30)
    assert all(len(found) == 1 for found in seen)
    owners = [watcher._take_over(found[0]) for watcher, found in zip(watchers, seen, strict=True)]
    assert sum(owner is not None for owner in owners) == 1
    with pytest.raises(Fenced):
        beat(lease)


def test_a_late_heartbeat_does_no_harm(world: World) -> None:
    """The owner wakes between the last look and the claim of the watcher: fenced, and that is all."""
    lease = world.claimed()
    watcher = world.worker("w2")
    for _ in range(4):
        found = watcher.observe()
        world.later(30)
    beat(lease)
    owner = watcher._take_over(found[0])
    assert owner is not None
    with pytest.raises(Fenced):
        beat(lease)
    owner.succeed(())


@pytest.mark.parametrize(("asked", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_what_was_asked_of_a_lost_worker_is_done_by_the_watcher(world: World, asked: str, status: str) -> None:
    lease = world.claimed()
    getattr(world.worker("person"), asked)(lease.id)
    watcher = world.worker("w2")
    assert world.watch(watcher) is None
    assert watcher.job(lease.id).state.status == status
    assert world.keys("active/") == []


def test_a_job_that_kills_its_workers_ends_dead(world: World) -> None:
    lease: Lease | None = world.claimed(budgets={"max_lost": 3})
    workers = 1
    while lease:
        workers += 1
        lease = world.watch(world.worker(f"w{workers}"))
    assert workers == 4
    [card] = world.keys("dead/")
    state = world.worker().job(card.removeprefix("dead/").removesuffix(".json")).state
    assert (state.status, state.failure and state.failure.reason) == ("dead", "too_many_lost_workers")


def test_a_worker_that_refuses_the_job_leaves_it_to_others(world: World) -> None:
    lease = world.claimed()
    picky, other = world.worker("w2"), world.worker("w3")
    for _ in range(5):
        assert picky.take_over(lambda state: False) is None
        taken = other.take_over()
        world.later(30)
        if taken:
            break
    assert taken is not None
    assert taken.id == lease.id


def test_hints_that_are_behind_are_put_right(world: World) -> None:
    lease = world.claimed()
    world.store.fail_before = [f"put {keys.READY}"]
    lease.release("drain")
    assert world.keys("ready/") == []
    assert world.keys("active/") != []
    world.worker("w2").observe()
    assert world.keys("active/") == []
    again = world.worker("w2").claim()
    assert again is not None
    assert again.id == lease.id


def test_a_hint_of_a_removed_job_goes(world: World) -> None:
    world.store.put(keys.watch_me("0" * 24, 2), b"")
    world.store.put("active/rubbish", b"")
    assert lost(world.worker()) == []
    assert world.keys("active/") == ["active/rubbish"]


def test_with_many_running_jobs_every_one_gets_its_turn(world: World) -> None:
    leases = [world.claimed(f"job-{number}") for number in range(PAGE + 20)]
    watcher, found = world.worker("w2"), set[str]()
    for _ in range(60):
        found.update(lost(watcher))
        world.later(30)
    assert found == {lease.id for lease in leases}


def test_a_heartbeat_of_rubbish_is_no_end_of_the_watcher(world: World) -> None:
    lease = world.claimed()
    lease.beat(Progress(images=3))
    world.store.put(keys.heartbeat(lease.id, lease.epoch), b"\x80rubbish")
    owner = world.watch(world.worker("w2"))
    assert owner is not None
    assert (owner.resume_from, owner.state.run_seconds) == (None, 0.0)


def test_results_that_may_not_be_written_do_not_stop_the_watching(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, silent = world.claimed("done"), world.claimed("silent")
    put = world.store.put

    def refuse(key: str, data: bytes) -> None:
        if key.startswith("results/"):
            raise StoreRefused("no permission to put in results/", hint="ask for it")
        put(key, data)

    monkeypatch.setattr(world.store, "put", refuse)
    assert done.succeed(()).status == "succeeded"
    watcher = world.worker("w2")
    owner = world.watch(watcher)
    assert owner is not None
    assert owner.id == silent.id
    assert "no permission" in str(watcher.problems[done.id])
    monkeypatch.undo()
    watcher.observe()
    assert watcher.problems == {}
    assert world.keys("results/") == [f"results/done/{done.id}/_SUCCESS"]
