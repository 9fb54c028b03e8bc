"""A lease: beats, hears what is asked, ends exactly once, and knows when it lost."""

from collections.abc import Callable

import pytest

from jobs.errors import DataError, Interrupted
from service.queue import Checkpoint, Failure, Fenced, JobState, Lease, OutputFile, Progress, keys
from service.store import KeyNotFound, Unavailable
from tests.queue_world import World, beat, sha256

CHECKPOINT_SHA = "1" * 64


@pytest.fixture
def world() -> World:
    return World()


def checkpoint(lease: Lease, images: int) -> Checkpoint:
    prefix = f"{lease.attempt_prefix.removeprefix(f'jobs/{lease.id}/')}/checkpoints/{images:09d}"
    return Checkpoint(prefix=prefix, images=images, manifest_sha256=CHECKPOINT_SHA)


def output(world: World, lease: Lease, content: bytes = b"report") -> tuple[OutputFile, ...]:
    world.store.put(f"{lease.attempt_prefix}/report.json", content)
    return (OutputFile(path="report.json", size_bytes=len(content), sha256=sha256(content)),)


def taken_over(world: World, lease: Lease) -> Lease:
    """Somebody else has it now."""
    other = world.watch(world.worker("w2"))
    assert other is not None
    assert other.id == lease.id
    return other


def test_a_beat_is_one_put_and_one_get(world: World) -> None:
    lease = world.claimed()
    world.store.asked.clear()
    lease.beat(Progress(images=10, phase="training"))
    assert world.store.asked == [f"put jobs/{lease.id}/hb/00000002.json", f"get jobs/{lease.id}/log/00000003.json"]


def test_a_beat_brings_what_was_asked(world: World) -> None:
    lease = world.claimed()
    person = world.worker("person")
    assert lease.beat(Progress()).cancel is None
    person.prioritise(lease.id, 90)
    person.cancel(lease.id, "enough")
    state = lease.beat(Progress())
    assert (state.priority, state.cancel and state.cancel.message) == (90, "enough")
    ended = lease.stop()
    assert (ended.status, ended.failure and ended.failure.message) == ("cancelled", "enough")


def test_the_end_steps_over_amendments(world: World) -> None:
    lease = world.claimed()
    world.worker("person").prioritise(lease.id, 90)
    state = lease.succeed(output(world, lease))
    assert (state.status, state.priority, state.marker_index) == ("succeeded", 90, 4)


def test_success_publishes_and_leaves_one_hint(world: World) -> None:
    lease = world.claimed("my-run")
    lease.succeed(output(world, lease))
    assert world.store.get(f"results/my-run/{lease.id}/report.json") == b"report"
    assert world.keys("results/")[0] == f"results/my-run/{lease.id}/_SUCCESS"
    assert world.keys("active/") == world.keys("ready/") == []
    assert len(world.keys("done/")) == 1


ENDS: dict[str, Callable[[Lease], JobState]] = {
    "succeed": lambda lease: lease.succeed(()),
    "fail": lambda lease: lease.fail(Failure.of("killed", "signal 9")),
    "release": lambda lease: lease.release("drain"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("lost", ["after", "before"])
def test_an_end_without_an_answer_may_be_repeated_and_counts_once(
    world: World, end: Callable[[Lease], JobState], lost: str
) -> None:
    lease = world.claimed()
    requests = ["create jobs/", *["get jobs/"] * 10, *["create jobs/"] * 10]
    world.store.fail_before, world.store.fail_after = (
        (requests, []) if lost == "before" else (requests[1:11], requests[:1])
    )
    with pytest.raises(Unavailable):
        end(lease)
    world.store.fail_before, world.store.fail_after = [], []
    state = end(lease)
    assert end(lease) == state
    log = world.worker().log.history(lease.id)
    assert [entry.kind for entry in log][:2] == ["submit", "claim"]
    assert len(log) == 3


def test_another_end_after_a_lost_commit_finds_the_commit(world: World) -> None:
    lease = world.claimed()
    files = output(world, lease)
    world.store.fail_after = [f"create jobs/{lease.id}/log/", *[f"get jobs/{lease.id}/log/00000003"] * 9]
    with pytest.raises(Unavailable):
        lease.succeed(files)
    world.store.fail_after = []
    assert lease.release("drain").status == "succeeded"
    assert world.keys("active/") == []
    assert world.store.get(f"results/job/{lease.id}/report.json") == b"report"


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_zombie_is_fenced_whatever_it_tries(world: World, end: Callable[[Lease], JobState]) -> None:
    zombie = world.claimed()
    owner = taken_over(world, zombie)
    for act in (lambda: beat(zombie), zombie.check, lambda: end(zombie)):
        with pytest.raises(Fenced, match=r"superseded at 3 by w2 \(take_over"):
            act()
    assert issubclass(Fenced, Interrupted)
    assert owner.succeed(output(world, owner)).epoch == 3


def test_a_zombie_does_not_touch_what_the_owner_committed(world: World) -> None:
    zombie = world.claimed()
    output(world, zombie, b"zombie before")
    owner = taken_over(world, zombie)
    owner.succeed(output(world, owner, b"owner"))
    output(world, zombie, b"zombie after")
    assert world.store.get(f"results/job/{owner.id}/report.json") == b"owner"


def test_after_its_end_a_lease_knows_how_it_ended(world: World) -> None:
    lease = world.claimed()
    released = lease.release("drain")
    assert world.worker("w2").claim() is not None
    assert lease.release("drain") == lease.check() == lease.state == released


def test_the_store_being_away_does_not_end_a_lease(world: World) -> None:
    lease = world.claimed()
    world.store.down = True
    for _ in range(40):
        world.later(15)
        with pytest.raises(Unavailable):
            beat(lease)
    assert lease.silent_seconds == pytest.approx(600)
    world.store.down = False
    beat(lease)
    assert lease.silent_seconds == 0
    assert lease.seconds == pytest.approx(600)
    assert lease.succeed(()).run_seconds == pytest.approx(600)


def test_the_next_attempt_resumes_from_the_last_checkpoint_told(world: World) -> None:
    lease = world.claimed()
    lease.beat(Progress(images=10, checkpoint=checkpoint(lease, 10)))
    assert lease.release("preempted").resume_from == checkpoint(lease, 10)
    again = world.worker("w2").claim()
    assert again is not None
    assert again.resume_from == checkpoint(lease, 10)
    assert again.attempt_prefix != lease.attempt_prefix


def test_a_later_checkpoint_of_a_zombie_does_not_count(world: World) -> None:
    zombie = world.claimed()
    zombie.beat(Progress(images=10, checkpoint=checkpoint(zombie, 10)))
    owner = taken_over(world, zombie)
    with pytest.raises(Fenced):
        zombie.beat(Progress(images=20, checkpoint=checkpoint(zombie, 20)))
    assert owner.resume_from == checkpoint(zombie, 10)
    assert owner.release("drain").resume_from == checkpoint(zombie, 10)


def test_a_checkpoint_outside_of_the_attempt_is_not_believed(world: World) -> None:
    lease = world.claimed()
    elsewhere = Checkpoint(prefix="attempts/00000099/checkpoints/1", images=1, manifest_sha256=CHECKPOINT_SHA)
    lease.beat(Progress(checkpoint=elsewhere))
    assert taken_over(world, lease).resume_from is None


def test_a_failed_job_waits_and_others_pass_it(world: World) -> None:
    lease = world.claimed("first")
    queued_seconds = lease.fail(Failure.of("killed", "x")).queued_seconds
    assert 0 < queued_seconds - world.clock.wall() <= 30
    world.submit("second")
    other = world.worker().claim()
    assert other is not None
    assert other.state.name == "second"
    assert world.worker().claim() is None
    world.later(31)
    again = world.worker().claim()
    assert again is not None
    assert (again.id, again.state.attempts) == (lease.id, 2)


def test_the_ceiling_of_the_delay_doubles_and_stops() -> None:
    queue = World().worker()
    for failures, ceiling in ((0, 30), (1, 60), (3, 240), (6, 1800), (500, 1800)):
        waits = [queue._backoff_seconds(failures) for _ in range(200)]
        assert max(waits) <= ceiling
        assert max(waits) > 0.8 * ceiling


def test_the_spec_is_the_one_that_was_submitted(world: World) -> None:
    lease = world.claimed()
    assert lease.spec() == b"name: job\n"
    world.store.put(keys.spec(lease.id), b"name: other\n")
    with pytest.raises(DataError, match=r"spec\.yaml: was changed"):
        lease.spec()
    world.store.delete(keys.spec(lease.id))
    with pytest.raises(KeyNotFound):
        lease.spec()


def test_an_end_stands_although_its_hints_failed(world: World) -> None:
    lease = world.claimed()
    files = output(world, lease)
    world.store.fail_before = ["get results/"]
    assert lease.succeed(files).status == "succeeded"
    assert world.keys("results/") == []
    world.worker("w2").observe()
    assert world.store.get(f"results/job/{lease.id}/report.json") == b"report"
    assert world.keys("active/") == []


def test_secrets_and_bytes_in_texts_do_not_break_a_beat(world: World) -> None:
    lease = world.claimed()
    lease.beat(Progress(last_line="\ud800" + "x" * 10_000, phase="p" * 1000))
    heartbeat = world.worker().job(lease.id).heartbeat
    assert heartbeat is not None
    assert len(heartbeat.progress.last_line) == 500
