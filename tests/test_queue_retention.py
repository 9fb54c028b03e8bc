"""What finished jobs left goes in time, and nothing that is still needed goes with it."""

import pytest

from service.queue import Checkpoint, Failure, JobGone, Lease, keys
from service.queue.model import SpecFacts
from tests.queue_world import World

DAY_SECONDS = 86_400


@pytest.fixture
def world() -> World:
    return World(retain_attempts_days=30, retain_jobs_days=365)


def ended(world: World, name: str = "run") -> Lease:
    """A job that failed with a checkpoint."""
    lease = world.claimed(name)
    prefix = f"attempts/{lease.epoch:08d}/checkpoints/000000100"
    world.store.put(f"jobs/{lease.id}/{prefix}/state.pt", b"weights")
    checkpoint = Checkpoint(prefix=prefix, images=100, manifest_sha256="1" * 64)
    lease.fail(Failure.of("diverged", "NaN"), checkpoint=checkpoint)
    return lease


def sweep(world: World) -> list[str]:
    return world.worker("sweeper").sweep()


def test_nothing_goes_before_its_time(world: World) -> None:
    ended(world)
    before = world.keys()
    for _ in range(30):
        assert sweep(world) == []
        world.later(DAY_SECONDS * 0.99)
    assert world.keys() == before


def test_attempts_go_first_and_the_log_says_so(world: World) -> None:
    lease = ended(world)
    world.later(31 * DAY_SECONDS)
    assert sweep(world) == [lease.id]
    assert world.keys(f"jobs/{lease.id}/attempts/") == []
    job = world.worker().job(lease.id)
    assert job.history[-1].kind == "prune"
    assert (job.state.status, job.state.resume_from) == ("failed", None)
    assert world.keys("dead/") != []
    assert sweep(world) == []


def test_then_the_job_and_a_tombstone_stays(world: World) -> None:
    lease = ended(world)
    world.later(366 * DAY_SECONDS)
    while sweep(world):
        pass
    assert world.keys() == [f"gc/tomb/{lease.id}"]
    with pytest.raises(JobGone, match="retention"):
        world.worker().job(lease.id)


def test_results_stay(world: World) -> None:
    lease = world.claimed("run")
    lease.succeed(())
    world.later(400 * DAY_SECONDS)
    while sweep(world):
        pass
    assert world.keys("results/") == [f"results/run/{lease.id}/_SUCCESS"]


def test_a_retry_before_the_sweep_wins(world: World) -> None:
    lease = ended(world)
    world.later(31 * DAY_SECONDS)
    world.worker("person").retry(lease.id)
    assert sweep(world) == []
    again = world.worker().claim()
    assert again is not None
    assert again.resume_from is not None
    assert world.store.get(f"jobs/{lease.id}/{again.resume_from.prefix}/state.pt") == b"weights"


def test_a_retry_after_the_sweep_starts_from_nothing(world: World) -> None:
    lease = ended(world)
    world.later(31 * DAY_SECONDS)
    sweep(world)
    assert world.worker("person").retry(lease.id).resume_from is None


def test_a_job_that_ended_again_later_gets_its_time_again(world: World) -> None:
    lease = ended(world)
    world.later(20 * DAY_SECONDS)
    world.worker("person").retry(lease.id)
    again = world.worker().claim()
    assert again is not None
    again.fail(Failure.of("diverged", "NaN"))
    world.later(11 * DAY_SECONDS)
    assert sweep(world) == []
    world.later(20 * DAY_SECONDS)
    assert sweep(world) == [lease.id]


def test_a_running_job_is_never_touched(world: World) -> None:
    lease = ended(world)
    world.worker("person").retry(lease.id)
    again = world.worker().claim()
    assert again is not None
    world.later(400 * DAY_SECONDS)
    assert sweep(world) == []
    again.succeed(())


def test_a_sweep_with_nothing_due_is_one_list(world: World) -> None:
    for number in range(5):
        ended(world, f"run-{number}")
    world.store.asked.clear()
    sweep(world)
    assert world.store.asked == ["list gc/due/"]


def test_a_spec_that_returns_from_the_dead_is_dropped(world: World) -> None:
    """An ingester that slept for a year must not start the job again."""
    lease = ended(world)
    spec = world.store.get(keys.spec(lease.id))
    world.later(366 * DAY_SECONDS)
    while sweep(world):
        pass
    world.store.put(f"inbox/run.{lease.id}.yaml", spec)
    report = world.worker().ingest(lambda content, name: SpecFacts(name="run"))
    assert report.created == []
    assert "retention" in report.dropped[f"inbox/run.{lease.id}.yaml"]
    assert world.keys() == [f"gc/tomb/{lease.id}"]
