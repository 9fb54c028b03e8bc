"""What is outside of the log follows it: results, dead letters, hints, by anyone and any number of times."""

import json
from contextlib import suppress

import pytest

from service.queue import REASONS, Failure, OutputFile, keys
from service.queue.hints import DeadLetter
from service.store import Unavailable
from tests.queue_world import World, sha256


@pytest.fixture
def world() -> World:
    return World()


def files(world: World, prefix: str, *paths: str) -> tuple[OutputFile, ...]:
    for path in paths:
        world.store.put(f"{prefix}/{path}", path.encode())
    return tuple(OutputFile(path=path, size_bytes=len(path), sha256=sha256(path.encode())) for path in paths)


def test_results_are_copied_and_flagged_last(world: World) -> None:
    lease = world.claimed("run")
    world.store.asked.clear()
    state = lease.succeed(files(world, lease.attempt_prefix, "report.json", "samples/000000100.png"))
    folder = f"results/run/{lease.id}"
    assert world.keys(folder) == [f"{folder}/{name}" for name in ("_SUCCESS", "report.json", "samples/000000100.png")]
    flag = json.loads(world.store.get(f"{folder}/_SUCCESS"))
    assert flag["sha256"]["report.json"] == sha256(b"report.json")
    assert flag["missing"] == []
    puts = [request for request in world.store.asked if request.startswith(f"put {folder}")]
    assert puts[-1] == f"put {folder}/_SUCCESS"
    world.store.asked.clear()
    world.worker("w2").hints.settle(state)
    assert not any(request.startswith(f"put {folder}") for request in world.store.asked)  # once is enough


def test_a_file_that_somebody_deleted_is_named(world: World) -> None:
    lease = world.claimed("run")
    committed = files(world, lease.attempt_prefix, "a", "b")
    world.store.delete(f"{lease.attempt_prefix}/a")
    lease.succeed(committed)
    flag = json.loads(world.store.get(f"results/run/{lease.id}/_SUCCESS"))
    assert flag["missing"] == ["a"]


def test_a_crash_between_commit_and_results_is_repaired_by_anyone(world: World) -> None:
    lease = world.claimed("run")
    committed = files(world, lease.attempt_prefix, "a", "b", "c")
    for request in ("put results/", "put done/", "delete active/", "put gc/due"):
        world.store.fail_before.append(request)
    lease.succeed(committed)
    for worker in ("w2", "w3", "w4", "w5"):
        with suppress(Unavailable):
            world.worker(worker).observe()
    assert len(world.keys(f"results/run/{lease.id}/")) == 4
    assert world.keys("active/") == []
    assert len(world.keys("done/")) == 1


@pytest.mark.parametrize(("reason", "status"), [("diverged", "failed"), ("killed", "dead")])
def test_a_dead_letter_says_all(world: World, reason: str, status: str) -> None:
    lease = world.claimed("run", budgets={"max_failures": 1})
    failure = Failure.of(reason, "NaN at image 1200", hint="lower the rate", log_lines=["one", "two"], node="gpu-3")
    state = lease.fail(failure, files=files(world, lease.attempt_prefix, "report.json"))
    assert state.status == status
    card = DeadLetter.model_validate_json(world.store.get(keys.dead_card(lease.id)))
    assert "NaN at image 1200" in card.failure.message
    assert card.failure.log_tail == ("one", "two")
    assert card.sentence == REASONS[card.failure.reason].sentence
    assert lease.id in card.next_command
    assert card.retry_command == f"gankiln retry {lease.id} --from-checkpoint last"
    assert world.store.get(f"results/run/{lease.id}/report.json") == b"report.json"
    assert world.store.stat(f"results/run/{lease.id}/_{status.upper()}") is not None


def test_a_retry_takes_the_dead_letter_back(world: World) -> None:
    lease = world.claimed("run", budgets={"max_failures": 1})
    lease.fail(Failure.of("killed", "x"), files=files(world, lease.attempt_prefix, "report.json"))
    queue = world.worker("person")
    assert queue.retry("run").status == "queued"
    assert world.keys("dead/") == world.keys("done/") == []
    again = world.worker("w2").claim()
    assert again is not None
    again.succeed(files(world, again.attempt_prefix, "report.json"))
    assert [key.rpartition("/")[2] for key in world.keys("results/")] == ["_SUCCESS", "report.json"]
    assert world.keys("dead/") == []


@pytest.mark.parametrize("lost", ["put ready/", "put active/", "create jobs/"])
def test_a_retry_that_crashed_halfway_is_not_forgotten(world: World, lost: str) -> None:
    """Nobody reads the hints of ended jobs: without a hint laid first, this job would wait for ever."""
    lease = world.claimed("run", budgets={"max_failures": 1})
    lease.fail(Failure.of("killed", "x"))
    world.store.fail_before = [lost] * (1 if lost != "create jobs/" else 5)
    try:
        world.worker("person").retry("run")
        revived = True
    except Unavailable:
        revived = False
    assert revived == (lost == "put ready/")
    world.worker("w2").observe()
    again = world.worker("w2").claim()
    assert (again is not None) == revived
    if again:
        assert world.keys("active/") == [keys.marker(again.state)]
    world.later(2 * 86_400)
    world.worker("w2").observe()
    assert len(world.keys("active/")) == revived  # an entry that never came is not waited for for ever


def test_a_retry_that_slept_after_its_announcement_is_not_forgotten(world: World) -> None:
    lease = world.claimed("run", budgets={"max_failures": 1})
    lease.fail(Failure.of("killed", "x"))
    person = world.worker("person")
    append = person.log.append

    def sleep_and_append(*arguments: object) -> object:
        for _ in range(20):  # others look at the hint meanwhile
            world.worker("w2").observe()
            world.later(30)
        world.store.fail_before = ["put ready/"]
        return append(*arguments)

    person.log.append = sleep_and_append
    person.retry("run")
    assert world.keys("ready/") == []
    world.worker("w2").observe()
    assert world.worker("w2").claim() is not None
