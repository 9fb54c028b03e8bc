"""The queue as a worker and a person use it."""

from collections import Counter

import pytest

from service.queue import Failure, NotPossible, Progress, Queue, SpecFacts, keys
from service.queue.queue import CHORE_EVERY, READY_PAGE
from service.store import Unavailable
from tests.queue_world import World, beat, validate


@pytest.fixture
def world() -> World:
    return World()


def names_claimed(queue: Queue) -> list[str]:
    names = []
    while lease := queue.claim():
        names.append(lease.state.name)
    return names


def test_high_priority_first_then_the_oldest(world: World) -> None:
    for name, priority in (("a", 50), ("b", 50), ("urgent", 90), ("c", 50), ("later", 5)):
        world.submit(name, priority=priority)
        world.later(2)
    assert names_claimed(world.worker()) == ["urgent", "a", "b", "c", "later"]


def test_a_drained_job_goes_to_the_front_of_its_priority(world: World) -> None:
    lease = world.claimed("first")
    for name in ("second", "third"):
        world.later(2)
        world.submit(name)
    lease.release("drain")
    assert names_claimed(world.worker()) == ["first", "second", "third"]


def test_of_many_claimers_each_job_has_one(world: World) -> None:
    for number in range(10):
        world.submit(f"job-{number}")
    workers = [world.worker(f"w{number}") for number in range(4)]
    names = [lease.state.name for _ in range(5) for worker in workers if (lease := worker.claim())]
    assert Counter(names) == Counter(f"job-{number}" for number in range(10))


def test_a_lost_race_goes_on_to_the_next(world: World) -> None:
    first, second = world.submit("first"), world.submit("second")
    slow = world.worker("slow")
    candidates = slow._candidates()
    assert [keys.parse_marker(key).job_id for key in candidates] == sorted([first, second])
    assert world.worker("fast").claim() is not None
    assert slow._claim(candidates[0], lambda state: True) is None
    assert slow.claim() is not None


def test_an_idle_poll_is_two_or_three_lists_and_nothing_else(world: World) -> None:
    queue = world.worker()
    for _ in range(2 * CHORE_EVERY):
        world.store.asked.clear()
        assert queue.poll(validate) is None
        assert all(request.startswith("list") for request in world.store.asked)
        assert len(world.store.asked) <= 3


def test_an_idle_hour_is_at_most_300_requests(world: World) -> None:
    queue = world.worker()
    begin = world.clock.seconds
    while world.clock.seconds < begin + 10 * 3600:
        queue.poll(validate)
        world.later(queue.next_poll_seconds())
    assert len(world.store.asked) / 10 <= 300


def test_a_poll_ingests_claims_and_takes_over(world: World) -> None:
    queue = world.worker("w2")
    queue.submit(b"name: run\n", "run")
    lease = queue.poll(validate)
    assert lease is not None
    assert queue.last_ingest.created == [lease.id]
    other = world.worker("w3")
    for _ in range(20):
        taken = other.poll(validate)
        if taken:
            break
        world.later(other.next_poll_seconds())
    assert taken is not None
    assert (taken.id, taken.state.lost) == (lease.id, 1)


def test_recovery_takes_at_most_two_and_a_half_minutes(world: World) -> None:
    """From the last heartbeat to the take-over, one idle worker polling: p95."""
    waits = []
    for number in range(100):
        lease = world.claimed(f"job-{number}")
        idle = world.worker(f"idle-{number}")
        for _ in range(number % 7 + 3):
            beat(lease)
            idle.poll(validate)
            world.later(15)
        beat(lease)
        died = world.clock.seconds
        while (taken := idle.poll(validate)) is None:
            world.later(idle.next_poll_seconds())
        waits.append(world.clock.seconds - died)
        taken.succeed(())
    assert sorted(waits)[94] <= 150
    assert min(waits) >= 75


def test_an_outage_during_polls_is_an_error_and_no_suspicion(world: World) -> None:
    world.claimed("run")
    queue = world.worker("w2")
    for _ in range(3):
        queue.poll(validate)
        world.later(20)
    world.store.down = True
    with pytest.raises(Unavailable):
        queue.poll(validate)
    assert queue.suspects == []
    world.store.down = False
    for _ in range(3):
        assert queue.poll(validate) is None
        world.later(20)


def test_a_worker_takes_only_what_it_can_run(world: World) -> None:
    big = world.submit("big", gpus=8, priority=90)
    world.submit("small", gpus=1)
    queue = world.worker()
    lease = queue.claim(lambda state: state.gpus <= 1)
    assert lease is not None
    assert lease.state.name == "small"
    world.store.asked.clear()
    assert queue.claim(lambda state: state.gpus <= 1) is None
    assert not any(big in request for request in world.store.asked)  # it remembers


def test_jobs_it_cannot_run_do_not_hide_the_ones_it_can(world: World) -> None:
    for number in range(READY_PAGE + 10):
        world.submit(f"big-{number:03d}", gpus=8)
    world.later(2)
    world.submit("small", gpus=1)
    queue = world.worker()
    for _ in range(40):
        if lease := queue.claim(lambda state: state.gpus <= 1):
            break
    assert lease is not None
    assert lease.state.name == "small"


def test_jobs_in_their_back_off_do_not_hide_lower_priorities() -> None:
    world = World(backoff_base_seconds=1e6, backoff_cap_seconds=1e6)
    for number in range(READY_PAGE + 5):
        world.claimed(f"high-{number:03d}", priority=90).fail(Failure.of("killed", "x"))
    world.submit("low", priority=10)
    queue = world.worker()
    claims = [queue.claim() for _ in range(2)]
    assert [lease.state.name for lease in claims if lease] == ["low"]


def test_another_machine_gets_the_first_chance(world: World) -> None:
    world.submit("run")
    bad, good = world.worker("w1", node="bad"), world.worker("w2", node="good")
    lease = bad.claim()
    assert lease is not None
    lease.fail(Failure.of("device_error", "Xid 79", node="bad"))
    world.later(31)
    assert bad.claim() is None
    again = good.claim()
    assert again is not None
    again.fail(Failure.of("device_error", "Xid 79", node="good"))
    world.later(1000)
    assert bad.claim() is not None  # alone, it is better than nothing


def test_a_job_that_nobody_took_in_time_is_dead(world: World) -> None:
    job_id = world.submit("run", limits={"queue_seconds": 60})
    world.later(61)
    assert world.worker().claim() is None
    state = world.worker().job(job_id).state
    assert (state.status, state.failure and state.failure.reason) == ("dead", "queue_timeout")
    assert world.keys("ready/") == []


def test_two_that_cancel_at_once_make_one_entry(world: World) -> None:
    lease = world.claimed("run")
    one, two = world.worker("a"), world.worker("b")
    one.cancel("run", "first")
    assert two.cancel("run", "second").cancel.message == "first"
    assert len(world.worker().job("run").history) == 3
    assert lease.beat(Progress()).cancel is not None


def test_amendments_race_and_both_count(world: World) -> None:
    lease = world.claimed("run")
    one, two = world.worker("a"), world.worker("b")
    append = one.log.append

    def slow_append(*args: object) -> object:
        two.prioritise("run", 77)
        one.log.append = append
        return append(*args)

    one.log.append = slow_append
    one.pause("run")
    state = lease.check()
    assert (state.priority, state.pause) == (77, True)


def test_pause_and_resume_keep_the_place(world: World) -> None:
    first = world.submit("first")
    world.later(5)
    world.submit("second")
    queue = world.worker()
    queue.pause(first)
    assert world.keys("paused/") != []
    assert names_claimed(world.worker("w2")) == ["second"]
    queue.resume(first)
    assert world.keys("paused/") == []
    assert names_claimed(world.worker("w2")) == ["first"]


def test_a_resume_that_crashed_halfway_is_repaired(world: World) -> None:
    job_id = world.submit("run")
    queue = world.worker()
    queue.pause(job_id)
    world.store.fail_before = ["put ready/"]
    queue.resume(job_id)
    assert world.keys("ready/") == []
    world.worker("w2").repair()
    assert world.keys("paused/") == []
    assert len(names_claimed(world.worker("w2"))) == 1


@pytest.mark.parametrize("priority", [-1, 100, 1000])
def test_a_priority_out_of_range(world: World, priority: int) -> None:
    world.submit("run")
    with pytest.raises(NotPossible, match="0 to 99"):
        world.worker().prioritise("run", priority)


def test_what_ended_well_cannot_be_retried(world: World) -> None:
    lease = world.claimed("run")
    lease.succeed(())
    with pytest.raises(NotPossible, match="only a failed, cancelled or dead job"):
        world.worker().retry("run")


def test_a_retried_job_has_fresh_budgets_and_all_its_attempts(world: World) -> None:
    lease = world.claimed("run", budgets={"max_failures": 1})
    lease.fail(Failure.of("killed", "x"))
    world.worker().retry("run", from_checkpoint=False)
    again = world.worker("w2").claim()
    assert again is not None
    assert (again.state.attempts, again.state.failures, again.state.revivals) == (2, 0, 1)


@pytest.mark.parametrize("lost", ["put active/", "delete ready/"])
def test_a_claim_stands_although_its_hints_failed(world: World, lost: str) -> None:
    world.submit("run")
    world.store.fail_before = [lost]
    lease = world.worker("w1").claim()
    assert lease is not None
    assert world.worker("w2").claim() is None
    assert world.keys("ready/") == []
    assert world.keys("active/") == [keys.marker(lease.state)]
    lease.succeed(())


def test_a_ready_hint_of_a_removed_job_goes(world: World) -> None:
    world.store.put(f"ready/50/000000000001-{'0' * 24}-00000001", b"")
    world.store.put("ready/rubbish", b"")
    assert world.worker().claim() is None
    assert world.keys("ready/") == ["ready/rubbish"]


def test_finished_jobs_cost_a_poll_nothing(world: World) -> None:
    for number in range(50):
        world.claimed(f"job-{number}").succeed(())
    queue = world.worker()
    world.store.asked.clear()
    queue.poll(validate)
    assert sorted(world.store.asked) == ["list active/", "list inbox/", "list ready/"]


def test_settings_of_a_spec_reach_the_state(world: World) -> None:
    job_id = world.submit("run", gpus=2, owner="ada", limits={"stall_seconds": 60}, budgets={"max_lost": 2})
    state = world.worker().job(job_id).state
    assert (state.gpus, state.owner, state.limits.stall_seconds, state.budgets.max_lost) == (2, "ada", 60, 2)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 101, "a\n", "é"])
def test_a_job_name_is_one_plain_segment(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        SpecFacts(name=name)
