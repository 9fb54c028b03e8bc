"""From one state of a job to the next: budgets, places in the queue, and what a cancel or a pause makes of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.queue import transitions
from service.queue.errors import NotPossible
from service.queue.model import CancelRequest, Checkpoint, Failure, JobState, SpecFacts

ID = "0" * 24
CHECKPOINT = Checkpoint(prefix="attempts/00000002/checkpoints/000000100", images=100, manifest_sha256="1" * 64)
OLDER = Checkpoint(prefix="attempts/00000001/checkpoints/000000050", images=50, manifest_sha256="2" * 64)


def queued(**fields: object) -> JobState:
    state = transitions.submitted(
        ID, SpecFacts(name="n"), spec_sha256="0" * 64, source="inbox/n.yaml", now_seconds=100.0
    )
    return state.model_copy(update=fields)


def running(**fields: object) -> JobState:
    return transitions.claimed(queued(**fields), 2, worker="w", node="gpu-1", now_seconds=200.0)


def fail(state: JobState, reason: str = "killed", delay: float = 30.0, node: str = "") -> JobState:
    return transitions.attempt_failed(
        state,
        3,
        failure=Failure.of(reason, "why", node=node, log_lines=["last words"]),
        checkpoint=None,
        files=(),
        seconds=10.0,
        now_seconds=300.0,
        delay_seconds=delay,
    )


def release(state: JobState, checkpoint: Checkpoint | None = None) -> JobState:
    return transitions.released(state, 3, interruption="drain", checkpoint=checkpoint, seconds=10.0, now_seconds=300.0)


def take_over(state: JobState, checkpoint: Checkpoint | None = None) -> JobState:
    return transitions.taken_over(
        state, 3, worker="v", node="", now_seconds=300.0, checkpoint=checkpoint, lost_seconds=25.0
    )


def test_a_claim_counts_the_attempt_before_anything_runs() -> None:
    state = running()
    assert (state.status, state.epoch, state.marker_index, state.attempts) == ("claimed", 2, 2, 1)
    assert state.attempt_prefix == f"jobs/{ID}/attempts/00000002"


def test_a_drained_job_keeps_its_place_and_its_budget_for_failures() -> None:
    state = release(running(), CHECKPOINT)
    assert (state.status, state.queued_seconds, state.marker_index) == ("queued", 100.0, 3)
    assert (state.interruptions, state.failures, state.run_seconds) == (1, 0, 10.0)
    assert state.resume_from == CHECKPOINT
    assert state.worker == ""


def test_without_a_new_checkpoint_the_old_base_stays() -> None:
    assert release(running(resume_from=OLDER)).resume_from == OLDER
    assert take_over(running(resume_from=OLDER)).resume_from == OLDER
    assert take_over(running(resume_from=OLDER), CHECKPOINT).resume_from == CHECKPOINT


def test_a_failure_waits_and_counts() -> None:
    state = fail(running())
    assert (state.status, state.queued_seconds, state.failures) == ("queued", 330.0, 1)
    assert state.failure is not None
    assert state.failure.log_tail == ("last words",)


def test_the_last_failure_is_the_end_and_keeps_what_was_said() -> None:
    state = fail(running(failures=2))
    assert (state.status, state.failures, state.finished_seconds) == ("dead", 3, 300.0)
    assert state.failure is not None
    assert state.failure.reason == "too_many_failures"
    assert state.failure.message == "3 failures, the last one: why"
    assert state.failure.log_tail == ("last words",)


@pytest.mark.parametrize("reason", ["spec_refused", "data_missing", "out_of_memory", "diverged", "permission_denied"])
def test_its_own_errors_end_a_job_at_once(reason: str) -> None:
    state = fail(running(), reason)
    assert state.status == "failed"
    assert state.failure is not None
    assert state.failure.reason == reason


def test_a_broken_machine_is_avoided() -> None:
    state = fail(running(), "device_error", node="gpu-1")
    assert state.avoid_nodes == ("gpu-1",)
    assert fail(running(avoid_nodes=("gpu-1",)), "device_error", node="gpu-1").avoid_nodes == ("gpu-1",)
    assert fail(running(), "killed", node="gpu-1").avoid_nodes == ()


def test_lost_workers_have_their_own_budget() -> None:
    state = take_over(running())
    assert (state.status, state.worker, state.epoch, state.lost, state.attempts) == ("claimed", "v", 3, 1, 2)
    assert (state.failures, state.interruptions, state.run_seconds) == (0, 0, 25.0)
    poison = take_over(running(lost=4))
    assert (poison.status, poison.lost, poison.attempts) == ("dead", 5, 1)
    assert poison.failure is not None
    assert poison.failure.reason == "too_many_lost_workers"


def test_interruptions_have_their_own_budget() -> None:
    assert release(running(interruptions=48)).status == "queued"
    state = release(running(interruptions=49))
    assert state.status == "dead"
    assert state.failure is not None
    assert state.failure.reason == "too_many_interruptions"


CANCEL = CancelRequest(message="not needed")


def test_a_cancel_is_obeyed_by_whoever_ends_the_attempt() -> None:
    asked = transitions.cancel_requested(running(), 3, request=CANCEL, now_seconds=250.0)
    assert (asked.status, asked.cancel) == ("claimed", CANCEL)
    for end in (release, take_over, fail):
        state = end(asked)
        assert state.status == "cancelled"
        assert state.failure is not None
        assert state.failure.message == "not needed"
    stopped = transitions.stopped(asked, 4, checkpoint=CHECKPOINT, files=(), seconds=1.0, now_seconds=300.0)
    assert (stopped.status, stopped.resume_from) == ("cancelled", CHECKPOINT)


def test_work_that_is_done_is_not_undone_by_a_late_cancel() -> None:
    asked = transitions.cancel_requested(running(), 3, request=CANCEL, now_seconds=250.0)
    state = transitions.succeeded(asked, 4, files=(), seconds=1.0, now_seconds=300.0)
    assert (state.status, state.cancel, state.failure) == ("succeeded", None, None)


def test_a_waiting_job_is_cancelled_or_paused_at_once() -> None:
    assert transitions.cancel_requested(queued(), 2, request=CANCEL, now_seconds=1.0).status == "cancelled"
    paused = transitions.pause_requested(queued(), 2)
    assert (paused.status, paused.marker_index) == ("paused", 2)
    assert transitions.cancel_requested(paused, 3, request=CANCEL, now_seconds=1.0).status == "cancelled"
    back = transitions.resumed(paused, 3)
    assert (back.status, back.pause, back.queued_seconds, back.marker_index) == ("queued", False, 100.0, 3)


def test_a_running_job_pauses_when_its_worker_stops_it() -> None:
    asked = transitions.pause_requested(running(), 3)
    assert (asked.status, asked.pause) == ("claimed", True)
    state = release(asked, CHECKPOINT)
    assert (state.status, state.resume_from, state.interruptions) == ("paused", CHECKPOINT, 0)
    assert transitions.resumed(asked, 4).pause is False
    assert take_over(asked).status == "paused"
    assert fail(asked).status == "paused"


def test_the_priority_of_a_waiting_job_moves_it() -> None:
    state = transitions.prioritised(queued(), 2, priority=90)
    assert (state.priority, state.marker_index, state.queued_seconds) == (90, 2, 100.0)
    state = transitions.prioritised(running(), 3, priority=90)
    assert (state.priority, state.marker_index) == (90, 2)


@pytest.mark.parametrize("status", ["failed", "cancelled", "dead"])
def test_an_unlucky_job_may_be_tried_again(status: str) -> None:
    ended = running(failures=3, lost=2, interruptions=5, avoid_nodes=("a",), cancel=CANCEL, resume_from=OLDER)
    ended = ended.model_copy(update={"status": status, "failure": Failure.of("killed", "m")})
    state = transitions.revived(ended, 9, from_checkpoint=True, now_seconds=500.0)
    assert (state.status, state.queued_seconds, state.marker_index) == ("queued", 500.0, 9)
    assert (state.failures, state.lost, state.interruptions, state.avoid_nodes, state.cancel) == (0, 0, 0, (), None)
    assert (state.resume_from, state.revivals, state.attempts) == (OLDER, 1, 1)
    assert transitions.revived(ended, 9, from_checkpoint=False, now_seconds=500.0).resume_from is None


def test_what_is_not_possible_says_why() -> None:
    done = transitions.succeeded(running(), 3, files=(), seconds=1.0, now_seconds=300.0)
    for act in (
        lambda: transitions.cancel_requested(done, 4, request=CANCEL, now_seconds=1.0),
        lambda: transitions.pause_requested(done, 4),
        lambda: transitions.resumed(done, 4),
        lambda: transitions.prioritised(done, 4, priority=1),
        lambda: transitions.revived(done, 4, from_checkpoint=True, now_seconds=1.0),
        lambda: transitions.revived(running(), 4, from_checkpoint=True, now_seconds=1.0),
        lambda: transitions.pruned(running(), 4),
        lambda: transitions.stopped(running(), 4, checkpoint=None, files=(), seconds=0.0, now_seconds=1.0),
    ):
        with pytest.raises(NotPossible, match=ID):
            act()


def test_a_job_that_waited_too_long() -> None:
    state = transitions.timed_out_waiting(queued(), 2, now_seconds=400.0)
    assert state.status == "dead"
    assert state.failure is not None
    assert (state.failure.reason, state.failure.message[:12]) == ("queue_timeout", "waited 300 s")


@given(st.text(), st.lists(st.text(), max_size=300))
def test_a_failure_takes_texts_of_any_length(message: str, lines: list[str]) -> None:
    failure = Failure.of("killed", message * 50, log_lines=[line * 100 for line in lines])
    assert len(failure.log_tail) <= 100
    assert failure.log_tail == tuple((line * 100)[:500] for line in lines[-100:])
    assert Failure.model_validate_json(failure.model_dump_json()) == failure
