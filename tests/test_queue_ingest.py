"""From the inbox to jobs: identity, crashes at every step, and everything that people drop."""

from pathlib import Path

import pytest

from jobs.errors import DataError, SpecError
from service.queue import Queue, SpecFacts, keys
from service.queue.ingest import PAGE, identity
from service.store import DirectoryStore, StoreRefused, Unavailable
from tests.queue_world import World, validate


@pytest.fixture
def world() -> World:
    return World()


def drop(world: World, name: str, content: bytes = b"name: run\n") -> None:
    world.store.put(f"inbox/{name}", content)


def facts(**fields: object):
    return lambda content, name: SpecFacts.model_validate({"name": "run"} | fields)


def error_of(world: World, name: str) -> str:
    return world.store.get(f"rejected/{name}.error.txt").decode()


def test_a_dropped_spec_becomes_a_job(world: World) -> None:
    drop(world, "a.yaml")
    report = world.worker().ingest(validate)
    [job_id] = report.created
    assert world.keys("inbox/") == []
    assert world.store.get(f"jobs/{job_id}/spec.yaml") == b"name: run\n"
    assert world.worker().find("run") == job_id
    state = world.worker().job(job_id).state
    assert (state.status, state.source, state.name) == ("queued", "inbox/a.yaml", "run")


def test_submit_knows_the_id_beforehand(world: World) -> None:
    queue = world.worker()
    job_id = queue.submit(b"name: run\n", "my spec!/../x")
    assert world.keys("inbox/") == [f"inbox/my-spec-..-x.{job_id}.yaml"]
    assert queue.ingest(validate).created == [job_id]
    assert queue.submit(b"name: run\n", "again") != job_id


def test_two_that_ingest_at_once_make_one_job(world: World) -> None:
    drop(world, "a.yaml")
    [stat] = world.store.list("inbox/")
    one, two = world.worker("w1"), world.worker("w2")
    first = one.ingest(validate)
    world.store.put("inbox/a.yaml", b"name: run\n")  # as the slower one still sees it
    world.store._objects["inbox/a.yaml"] = (b"name: run\n", stat)
    second = two.ingest(validate)
    assert second.created == []
    assert second.dropped == {"inbox/a.yaml": f"job {first.created[0]} is there already"}
    assert len(world.keys("ready/")) == 1


@pytest.mark.parametrize("step", range(8))
@pytest.mark.parametrize("how", ["fail_before", "fail_after"])
def test_a_crash_at_any_step_is_completed_by_the_next(world: World, step: int, how: str) -> None:
    drop(world, "a.yaml")
    world.store.asked.clear()
    world.worker().ingest(validate)
    steps = [request for request in world.store.asked if not request.startswith("list")]
    if step >= len(steps):
        pytest.skip("fewer steps than that")
    fresh = World()
    drop(fresh, "a.yaml")
    setattr(fresh.store, how, [steps[step]] * (5 if "/log/" in steps[step] else 1))
    for _ in range(3):
        try:
            fresh.worker("w1").ingest(validate)
        except Unavailable:
            continue
    assert fresh.keys("inbox/") == []
    assert len(fresh.keys("ready/")) == 1
    lease = fresh.worker("w2").claim()
    assert lease is not None
    assert lease.spec() == b"name: run\n"
    assert fresh.worker("w2").claim() is None


def test_the_same_file_again_is_a_new_job(world: World) -> None:
    queue = world.worker()
    drop(world, "a.yaml")
    first = queue.ingest(validate).created
    world.later(5)
    drop(world, "a.yaml")
    assert queue.ingest(validate).created != first
    assert len(queue.views.named("run")) == 2


def test_identity_is_of_name_content_and_time() -> None:
    one = identity("inbox/a.yaml", b"x", 1000.0)
    assert identity("inbox/a.yaml", b"x", 1000.9) == one
    others = [
        identity("inbox/b.yaml", b"x", 1000.0),
        identity("inbox/a.yaml", b"y", 1000.0),
        identity("inbox/a.yaml", b"x", 1001.0),
    ]
    assert len({one, *others}) == 4
    assert identity(f"inbox/a.{one}.yaml", b"anything", 5.0) == one


def test_a_refused_spec_is_moved_with_its_reason(world: World) -> None:
    drop(world, "bad run.yaml", b"nonsense")
    report = world.worker().ingest(validate)
    assert "bad run.yaml:1:1: a spec begins with its name" in report.rejected["inbox/bad run.yaml"]
    assert world.store.get("rejected/bad-run.yaml") == b"nonsense"
    assert "hint: name: my-run" in error_of(world, "bad-run")
    assert world.keys("inbox/") == world.keys("jobs/") == []


@pytest.mark.parametrize(
    "error", [SpecError("no"), DataError("no"), ValueError("no"), RecursionError("no"), MemoryError()]
)
def test_whatever_goes_wrong_with_a_spec_is_its_own_rejection(world: World, error: Exception) -> None:
    def explode(content: bytes, name: str) -> SpecFacts:
        raise error

    drop(world, "a.yaml")
    drop(world, "b.yaml")
    assert len(world.worker().ingest(explode).rejected) == 2
    assert world.keys("inbox/") == []


@pytest.mark.parametrize("name", ["notes.txt", "archive.zip", "noending", ".hidden"])
def test_what_is_no_spec_is_rejected(world: World, name: str) -> None:
    drop(world, name)
    [reason] = world.worker().ingest(validate).rejected.values()
    assert "ends in .yaml" in reason
    assert world.keys("inbox/") == []


def test_a_huge_spec_is_rejected_unread(world: World) -> None:
    drop(world, "huge.yaml", b"x" * (256 * 1024 + 1))
    read: list[str] = []
    [reason] = (
        world.worker().ingest(lambda content, name: read.append(name) or validate(content, name)).rejected.values()
    )
    assert "262145 bytes, a spec at most 262144" in reason
    assert read == []
    assert world.keys("inbox/") == []


@pytest.mark.parametrize("name", ["a.yaml.tmp", "a.yaml.part"])
def test_writes_in_progress_are_left_alone(world: World, name: str) -> None:
    drop(world, name)
    assert world.worker().ingest(validate).empty
    assert world.keys("inbox/") == [f"inbox/{name}"]


def test_what_cannot_be_taken_hides_nothing(world: World) -> None:
    for number in range(PAGE + 5):
        drop(world, f"a{number:03d}.part")
    drop(world, "z.yaml")
    queue = world.worker()
    assert queue.ingest(validate).empty
    assert len(queue.ingest(validate).created) == 1


def test_what_cannot_be_read_stays_and_blocks_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(world, "locked.yaml")
    drop(world, "open.yaml")
    read = world.store.read

    def refuse(key: str):
        if key == "inbox/locked.yaml":
            raise StoreRefused(f"{key}: get failed: Permission denied", hint="chmod a+r")
        return read(key)

    monkeypatch.setattr(world.store, "read", refuse)
    queue = world.worker()
    for _ in range(2):
        report = queue.ingest(validate)
        assert "Permission denied" in report.rejected["inbox/locked.yaml"]
    assert world.keys("inbox/") == ["inbox/locked.yaml"]
    assert "chmod" in error_of(world, "locked.yaml")
    assert len(queue.views.named("run")) == 1


def test_a_newer_version_dropped_meanwhile_is_not_deleted(world: World) -> None:
    drop(world, "a.yaml", b"name: one\n")

    def drop_again(content: bytes, name: str) -> SpecFacts:
        if content == b"name: one\n":
            world.later(1)
            drop(world, "a.yaml", b"name: two\n")
        return validate(content, name)

    queue = world.worker()
    queue.ingest(drop_again)
    queue.ingest(drop_again)
    assert len(queue.views.named("one")) == len(queue.views.named("two")) == 1


def test_control_files(world: World) -> None:
    job_id = world.submit("run")
    queue = world.worker()
    for verb, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        drop(world, f"{job_id}.{verb}", b"")
        assert queue.ingest(validate).controls == [f"inbox/{job_id}.{verb}"]
        assert queue.job(job_id).state.status == status
    assert world.keys("inbox/") == []


def test_control_files_by_name(world: World) -> None:
    world.submit("run")
    world.later(2)
    newest = world.submit("run")
    drop(world, "run.cancel", b"")
    world.worker().ingest(validate)
    assert world.worker().job(newest).state.status == "cancelled"
    assert len(world.keys("ready/")) == 1


@pytest.mark.parametrize("stem", ["unknown", "0" * 24, "..", "a b"])
def test_a_control_file_for_nothing_is_rejected(world: World, stem: str) -> None:
    drop(world, f"{stem}.cancel", b"")
    assert len(world.worker().ingest(validate).rejected) == 1
    assert world.keys("inbox/") == []


def test_a_control_file_that_comes_too_late_is_rejected(world: World) -> None:
    lease = world.claimed()
    lease.succeed(())
    drop(world, f"{lease.id}.cancel", b"")
    [reason] = world.worker().ingest(validate).rejected.values()
    assert "has ended already (succeeded)" in reason


def test_one_idempotency_key_is_one_job(world: World) -> None:
    queue = world.worker()
    drop(world, "a.yaml", b"name: one\n")
    [first] = queue.ingest(facts(idempotency_key="nightly/1")).created
    drop(world, "b.yaml", b"name: other\n")
    report = queue.ingest(facts(idempotency_key="nightly/1"))
    assert (report.created, [*report.dropped.values()]) == ([], [f"idempotency_key: job {first} has it already"])
    drop(world, "c.yaml", b"name: third\n")
    assert len(queue.ingest(facts(idempotency_key="nightly/2")).created) == 1


def test_supersede_cancels_the_older_ones_of_its_name(world: World) -> None:
    lease = world.claimed("run")
    world.later(2)
    waiting, other = world.submit("run"), world.submit("another")
    world.later(2)
    drop(world, "a.yaml")
    [new] = world.worker().ingest(facts(on_change="supersede")).created
    queue = world.worker()
    assert lease.check().cancel is not None
    assert lease.stop().status == "cancelled"
    for job_id in (lease.id, waiting):
        state = queue.job(job_id).state
        assert state.status == "cancelled"
        assert state.failure is not None
        assert (state.failure.reason, state.failure.message) == ("superseded", f"superseded by job {new}")
    assert [queue.job(job_id).state.status for job_id in (new, other)] == ["queued", "queued"]


def test_ignore_waits_for_the_one_that_is_there(world: World) -> None:
    lease = world.claimed("run")
    world.later(2)
    drop(world, "a.yaml")
    report = world.worker().ingest(facts(on_change="ignore"))
    assert report.created == []
    assert f"job {lease.id} of this name is not finished" in report.dropped["inbox/a.yaml"]
    lease.succeed(())
    world.later(2)
    drop(world, "a.yaml")
    assert len(world.worker().ingest(facts(on_change="ignore")).created) == 1


def test_two_that_supersede_each_other_do_not_both_die(world: World) -> None:
    queue = world.worker()
    for name in ("a", "b", "c"):
        drop(world, f"{name}.yaml", f"name: {name}".encode())
        world.later(2)
    created = queue.ingest(facts(on_change="supersede")).created
    statuses = {job: queue.job(job).state.status for job in created}
    assert statuses == {job: "queued" if job == max(created) else "cancelled" for job in created}


def test_a_stolen_id_is_refused(world: World) -> None:
    victim = world.submit("victim")
    drop(world, f"evil.{victim}.yaml", b"name: evil\n")
    [reason] = world.worker().ingest(validate).rejected.values()
    assert f"the id {victim} in its name belongs to another spec" in reason
    assert world.worker().job(victim).state.name == "victim"


class TestInADirectory:
    """Where people copy files and are seen while they do."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "store", durable=False)

    @pytest.fixture
    def queue(self, store: DirectoryStore) -> Queue:
        queue = Queue(store, worker_id="w1")
        queue.make_folders()
        return queue

    def test_a_fresh_file_is_left_to_settle(
        self, queue: Queue, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (store.root / "inbox" / "a.yaml").write_bytes(b"name: ru")
        assert queue.ingest(validate).empty
        (store.root / "inbox" / "a.yaml").write_bytes(b"name: run\n")
        now = store.server_time_seconds()
        monkeypatch.setattr(store, "server_time_seconds", lambda: now + 3)
        assert len(queue.ingest(validate).created) == 1
        assert queue.views.named("run")

    def test_what_submit_wrote_is_taken_at_once(self, queue: Queue) -> None:
        job_id = queue.submit(b"name: run\n", "run")
        assert queue.ingest(validate).created == [job_id]

    def test_links_in_the_inbox_are_left_out(self, queue: Queue, store: DirectoryStore, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"name: secret\n")
        (store.root / "inbox" / "a.yaml").symlink_to(tmp_path / "secret")
        assert queue.ingest(validate).empty
        assert [stat.key for stat in store.list("")] == []

    def test_a_rejected_file_is_kept(self, queue: Queue, store: DirectoryStore) -> None:
        queue.submit(b"bad", "bad")
        queue.ingest(validate)
        assert any(stat.key.endswith(".error.txt") for stat in store.list(keys.REJECTED))
