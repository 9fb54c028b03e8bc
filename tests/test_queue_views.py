"""What people see: depth, lists, one job, and why."""

import pytest

from service.queue import Failure, JobGone, JobNotFound, Progress, keys
from tests.queue_world import World, beat


@pytest.fixture
def world() -> World:
    return World()


def test_depth_counts_what_is_there() -> None:
    world = World(backoff_base_seconds=1e6, backoff_cap_seconds=1e6)
    for number in range(3):
        world.submit(f"low-{number}", priority=10)
        world.later(10)
    first = world.clock.wall()
    world.submit("high", priority=90)
    paused = world.submit("paused")
    world.worker().pause(paused)
    delayed = world.worker().claim()
    assert delayed is not None
    delayed.fail(Failure.of("killed", "x"))
    running = world.worker().claim()
    assert running is not None
    dead = world.worker().claim()
    assert dead is not None
    dead.fail(Failure.of("diverged", "NaN"))
    world.store.put("inbox/new.yaml", b"")
    depth = world.worker().depth()
    assert (depth.inbox, depth.running, depth.paused, depth.dead) == (1, 1, 1, 1)
    assert (depth.ready, depth.delayed) == ({10: 1}, 1)
    assert depth.waiting == 1
    assert depth.oldest_ready_seconds[10] == int(first) - 10


def test_status_lists_jobs_of_each_kind(world: World) -> None:
    running = world.claimed("running")
    running.beat(Progress(images=500, phase="training"))
    world.later(5)
    done = world.claimed("done")
    done.succeed(())
    world.submit("waiting")
    world.worker().pause(world.submit("paused"))
    overview = world.worker().status()
    assert [view.state.name for view in overview.running] == ["running"]
    assert [view.state.name for view in overview.waiting] == ["waiting"]
    assert [view.state.name for view in overview.paused] == ["paused"]
    assert [view.state.name for view in overview.finished] == ["done"]
    heartbeat = overview.running[0].heartbeat
    assert heartbeat is not None
    assert heartbeat.progress.images == 500
    assert overview.running[0].heartbeat_age_seconds == pytest.approx(5, abs=0.1)


def test_a_job_is_found_by_id_beginning_and_name(world: World) -> None:
    old = world.submit("run")
    world.later(3)
    new = world.submit("run")
    other = world.submit("other")
    queue = world.worker()
    assert queue.find(old) == old
    assert queue.find("run") == new
    assert queue.find(other[:20]) == other
    assert queue.views.named("run") == [old, new]
    for missing in ("nothing", "0" * 8, "../run", "run/", ""):
        with pytest.raises(JobNotFound):
            queue.find(missing)
    with pytest.raises(JobNotFound):
        queue.job("0" * 24)


def test_the_history_tells_the_story(world: World) -> None:
    lease = world.claimed("run")
    world.worker("person").prioritise("run", 70)
    lease.release("preempted")
    again = world.worker("w2").claim()
    assert again is not None
    again.succeed(())
    history = world.worker().job("run").history
    assert [entry.kind for entry in history] == ["submit", "claim", "amend", "release", "claim", "finish"]
    assert [entry.writer for entry in history] == ["submitter", "w1", "person", "w1", "w2", "w2"]
    assert history[3].interruption == "preempted"
    assert all(entry.note for entry in history)


def why(world: World, job: str) -> str:
    found = world.worker().why(job)
    assert found.next_command.startswith("gankiln ")
    return found.sentence + " | " + " | ".join(found.details)


def test_why_it_waits(world: World) -> None:
    first = world.submit("first")
    world.later(2)
    second = world.submit("second")
    assert "It is the next one" in why(world, first)
    assert "1 jobs are before it" in why(world, second)
    world.worker().prioritise(second, 99)
    assert "It is the next one" in why(world, second)


def test_why_it_is_in_the_inbox(world: World) -> None:
    job_id = world.worker().submit(b"name: run", "run")
    assert "inbox" in why(world, job_id)


def test_why_it_runs_and_why_it_seems_to(world: World) -> None:
    world.submit("run")
    lease = world.worker("w1", node="gpu-7").claim()
    assert lease is not None
    assert "w1 on gpu-7 has just taken it" in why(world, "run")
    lease.beat(Progress(images=40, phase="training", last_line="fid 12"))
    assert "w1 on gpu-7 runs it. | " in why(world, "run")
    assert "training, 40 images; fid 12" in why(world, "run")
    world.worker().cancel("run", "enough")
    assert "asked to stop: enough" in why(world, "run")
    world.later(200)
    assert "not been heard for 200 s" in why(world, "run")


def test_why_it_waits_after_a_failure(world: World) -> None:
    lease = world.claimed("run")
    lease.fail(Failure.of("device_error", "Xid 79", node="gpu-7"))
    text = why(world, "run")
    assert "(back-off)" in text
    assert "device_error: Xid 79" in text
    assert "avoids for a while: gpu-7" in text


def test_why_it_ended(world: World) -> None:
    lease = world.claimed("good")
    lease.succeed(())
    assert "It succeeded in attempt 1" in why(world, "good")
    lease = world.claimed("bad")
    lease.fail(Failure.of("diverged", "NaN at 1200", hint="lower the rate"))
    text = why(world, "bad")
    assert "A loss left the numbers" in text
    assert "NaN at 1200" in text
    assert "hint: lower the rate" in text
    world.submit("unwanted")
    world.worker().cancel("unwanted", "not needed")
    assert "not needed" in why(world, "unwanted")
    world.submit("held")
    world.worker().pause("held")
    assert "Somebody paused it" in why(world, "held")


def test_why_nothing(world: World) -> None:
    with pytest.raises(JobNotFound):
        world.worker().why("nothing")
    world.store.put(keys.tombstone("0" * 24), b"")
    with pytest.raises(JobGone):
        world.worker().why("0" * 24)


def test_views_only_read(world: World) -> None:
    lease = world.claimed("run")
    beat(lease)
    world.submit("other")
    world.store.asked.clear()
    queue = world.worker()
    queue.status()
    queue.job("run")
    queue.why("other")
    assert {request.split()[0] for request in world.store.asked} <= {"list", "get", "stat"}


def test_a_hint_of_an_earlier_end_is_not_shown(world: World) -> None:
    lease = world.claimed("run")
    ended = lease.fail(Failure.of("diverged", "NaN"))
    world.worker().retry("run")
    world.store.put(keys.marker(ended), b"")  # a late writer
    assert world.worker().status().finished == []


def test_lists_stay_within_their_limit(world: World) -> None:
    for number in range(30):
        world.submit(f"run-{number}")
    assert len(world.worker().status(limit=7).waiting) == 7
