"""The log: one winner an index, answers that got lost, rubbish in between, and jobs that were removed meanwhile."""

import pytest

from service.queue import keys, transitions
from service.queue.errors import JobGone
from service.queue.log import Draft, Head
from service.store import Unavailable
from tests.queue_world import World


@pytest.fixture
def world() -> World:
    return World()


def append(world: World, head: Head, writer: str = "w1") -> Head | None:
    log = world.worker(writer).log
    state = transitions.prioritised(head.state, head.index + 1, priority=(head.state.priority + 1) % 100)
    return log.append(head.index + 1, Draft("amend", "changed", log.nonce()), state)


def head_of(world: World, job_id: str) -> Head:
    head = world.worker().log.head(job_id)
    assert head is not None
    return head


def test_of_two_that_append_one_wins(world: World) -> None:
    head = head_of(world, world.submit())
    assert append(world, head, "a") is not None
    assert append(world, head, "b") is None
    assert [entry.writer for entry in world.worker().log.history(head.state.id)] == ["submitter", "a"]


@pytest.mark.parametrize("lost", ["create jobs/", "get jobs/"])
def test_a_lost_answer_to_ones_own_append_is_a_win(world: World, lost: str) -> None:
    head = head_of(world, world.submit())
    world.store.fail_after = ["create jobs/", lost]
    assert append(world, head) is not None
    assert len(world.worker().log.history(head.state.id)) == 2


def test_a_lost_answer_while_another_was_faster_is_a_loss(world: World) -> None:
    head = head_of(world, world.submit())
    append(world, head, "other")
    world.store.fail_before = ["create jobs/"]
    assert append(world, head) is None


def test_a_lost_request_is_repeated(world: World) -> None:
    head = head_of(world, world.submit())
    world.store.fail_before = ["create jobs/"] * 3
    assert append(world, head) is not None
    assert len(world.clock.slept) == 3


def test_an_answer_that_never_comes_is_not_guessed(world: World) -> None:
    head = head_of(world, world.submit())
    world.store.fail_before = ["create jobs/"] * 20
    with pytest.raises(Unavailable):
        append(world, head)


def test_the_head_is_found_from_a_hint_and_from_a_list(world: World) -> None:
    job_id = world.submit()
    head: Head | None = head_of(world, job_id)
    for _ in range(5):
        assert head
        head = append(world, head)
    log = world.worker().log
    for start in (None, 1, 3, 6):
        assert log.head(job_id, start) == head
    assert log.head(job_id, 9) is None
    assert log.head("0" * 24) is None


@pytest.mark.parametrize(
    "rubbish", [b"", b"{}", b"\xff\xfe", b'{"version": 1}', b"[" * 100_000, b'{"__reduce__": "os.system"}']
)
def test_rubbish_is_stepped_over_by_everybody_in_the_same_way(world: World, rubbish: bytes) -> None:
    job_id = world.submit()
    world.store.put(keys.log_entry(job_id, 2), rubbish)
    head = head_of(world, job_id)
    assert (head.index, head.entry.index) == (2, 1)
    assert world.worker().log.head(job_id, 1) == head
    assert world.worker().log.head(job_id, 2) == head
    after = append(world, head)
    assert after is not None
    assert after.index == 3
    assert head_of(world, job_id) == after


def test_an_entry_of_another_job_or_index_is_rubbish(world: World) -> None:
    one, other = world.submit("one"), world.submit("other")
    world.store.put(keys.log_entry(one, 2), world.store.get(keys.log_entry(other, 1)))
    world.store.put(keys.log_entry(one, 3), world.store.get(keys.log_entry(one, 1)))
    assert head_of(world, one).state.name == "one"
    assert head_of(world, one).index == 3


def test_what_lies_beyond_a_gap_was_never_appended(world: World) -> None:
    job_id = world.submit()
    world.store.put(keys.log_entry(job_id, 9), world.store.get(keys.log_entry(job_id, 1)))
    assert head_of(world, job_id).index == 1


def test_a_log_of_rubbish_alone_is_no_job(world: World) -> None:
    job_id = "0" * 24
    world.store.put(keys.log_entry(job_id, 1), b"rubbish")
    assert world.worker().log.head(job_id) is None
    assert world.worker().log.head(job_id, 1) is None


def test_an_append_to_a_removed_job_does_not_bring_it_back(world: World) -> None:
    """The remover deletes index n+1 while a writer sleeps, who then creates it and must not believe in it."""
    job_id = world.submit()
    sleeper = head_of(world, job_id)
    world.worker().cancel(job_id)
    world.later(400 * 86_400)
    while world.worker().sweep():
        pass
    assert world.keys(f"jobs/{job_id}/") == []
    with pytest.raises(JobGone):
        append(world, sleeper)
    assert world.keys(f"jobs/{job_id}/") == []
