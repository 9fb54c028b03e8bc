"""How a job changes: pure functions from one state to the next. No store, no clock, no dice.

Each takes the state and the log index that the new state will have, and returns the new state. Whether the result is
`claimed`, `queued` or terminal is decided here and nowhere else.
"""

from typing import Any, Literal

from service.queue.errors import NotPossible
from service.queue.model import (
    REVIVABLE,
    CancelRequest,
    Checkpoint,
    Failure,
    JobState,
    OutputFile,
    SpecFacts,
    Status,
)
from service.queue.reasons import REASONS, Interruption


def submitted(job_id: str, facts: SpecFacts, *, spec_sha256: str, source: str, now_seconds: float) -> JobState:
    """A new job, at log index 1."""
    return JobState(
        id=job_id,
        name=facts.name,
        spec_sha256=spec_sha256,
        owner=facts.owner,
        gpus=facts.gpus,
        budgets=facts.budgets,
        limits=facts.limits,
        source=source,
        submitted_seconds=now_seconds,
        queued_seconds=now_seconds,
        priority=facts.priority,
    )


def claimed(state: JobState, index: int, *, worker: str, node: str, now_seconds: float) -> JobState:
    """The job belongs to `worker` from here on; the attempt is counted before anything of it runs."""
    return _changed(
        state,
        status="claimed",
        epoch=index,
        marker_index=index,
        attempts=state.attempts + 1,
        worker=worker,
        node=node,
        claimed_seconds=now_seconds,
    )


def taken_over(
    state: JobState,
    index: int,
    *,
    worker: str,
    node: str,
    now_seconds: float,
    checkpoint: Checkpoint | None,
    lost_seconds: float,
) -> JobState:
    """The owner is lost. `checkpoint` is the last it told of; what it publishes later does not count."""
    after = _attempt_ended(state, checkpoint, lost_seconds)
    after = _changed(after, lost=state.lost + 1)
    if after.cancel or after.pause:
        return _set_aside(after, index, now_seconds)
    if after.lost >= after.budgets.max_lost:
        return _given_up(after, index, now_seconds, "too_many_lost_workers", f"{after.lost} workers were lost with it")
    return claimed(after, index, worker=worker, node=node, now_seconds=now_seconds)


def released(
    state: JobState,
    index: int,
    *,
    interruption: Interruption,
    checkpoint: Checkpoint | None,
    seconds: float,
    now_seconds: float,
) -> JobState:
    """A healthy attempt is given back: it keeps its place in the queue, and no failure is counted."""
    after = _attempt_ended(state, checkpoint, seconds)
    if after.cancel or after.pause:
        return _set_aside(after, index, now_seconds)
    after = _changed(after, interruptions=state.interruptions + 1)
    if after.interruptions >= after.budgets.max_interruptions:
        message = f"{after.interruptions} interruptions, the last one: {interruption}"
        return _given_up(after, index, now_seconds, "too_many_interruptions", message)
    return _queued(after, index, after.submitted_seconds)


def attempt_failed(
    state: JobState,
    index: int,
    *,
    failure: Failure,
    checkpoint: Checkpoint | None,
    files: tuple[OutputFile, ...],
    seconds: float,
    now_seconds: float,
    delay_seconds: float,
) -> JobState:
    """An attempt ended badly: again after a delay, or never again, as the reason and the budgets say."""
    after = _changed(_attempt_ended(state, checkpoint, seconds), failures=state.failures + 1, failure=failure)
    if after.cancel:
        return _set_aside(after, index, now_seconds)
    facts = REASONS[failure.reason]
    if facts.retry == "never":
        return _terminal(after, "failed", index, now_seconds, files=files)
    if after.failures >= after.budgets.max_failures:
        message = f"{after.failures} failures, the last one: {failure.message}"
        last = failure.model_copy(update={"reason": "too_many_failures", "message": message})
        return _terminal(_changed(after, failure=last), "dead", index, now_seconds, files=files)
    if facts.retry == "elsewhere" and failure.node and failure.node not in after.avoid_nodes:
        after = _changed(after, avoid_nodes=(*after.avoid_nodes, failure.node)[-20:])
    if after.pause:
        return _set_aside(after, index, now_seconds)
    return _queued(after, index, now_seconds + delay_seconds)


def succeeded(
    state: JobState, index: int, *, files: tuple[OutputFile, ...], seconds: float, now_seconds: float
) -> JobState:
    """The job is done; a cancel that came too late does not undo the work."""
    after = _changed(_attempt_ended(state, None, seconds), cancel=None, pause=False, failure=None)
    return _terminal(after, "succeeded", index, now_seconds, files=files)


def stopped(
    state: JobState,
    index: int,
    *,
    checkpoint: Checkpoint | None,
    files: tuple[OutputFile, ...],
    seconds: float,
    now_seconds: float,
) -> JobState:
    """The owner did what a cancel asked for."""
    after = _attempt_ended(state, checkpoint, seconds)
    if after.cancel is None:
        raise NotPossible(f"{state.id}: nobody asked to cancel it")
    return _set_aside(_changed(after, files=files), index, now_seconds)


def timed_out_waiting(state: JobState, index: int, *, now_seconds: float) -> JobState:
    """No worker took the job within its `queue_seconds`."""
    waited = now_seconds - state.queued_seconds
    return _given_up(
        state, index, now_seconds, "queue_timeout", f"waited {waited:.0f} s, the limit was set in the spec"
    )


def cancel_requested(state: JobState, index: int, *, request: CancelRequest, now_seconds: float) -> JobState:
    """A running attempt is asked to stop; a waiting job is cancelled at once."""
    if state.terminal:
        raise NotPossible(f"{state.id}: has ended already ({state.status})")
    after = _changed(state, cancel=state.cancel or request)
    return after if state.status == "claimed" else _set_aside(after, index, now_seconds)


def pause_requested(state: JobState, index: int) -> JobState:
    """A running attempt is asked to checkpoint and stop; a waiting job steps out of the queue."""
    if state.terminal:
        raise NotPossible(f"{state.id}: has ended already ({state.status})")
    after = _changed(state, pause=True)
    return _changed(after, status="paused", marker_index=index) if state.status == "queued" else after


def resumed(state: JobState, index: int) -> JobState:
    """Back to the queue, at the place it had; a pause that no worker acted on yet is forgotten."""
    if state.terminal:
        raise NotPossible(
            f"{state.id}: has ended already ({state.status})", hint=f"gankiln retry {state.id} starts it again"
        )
    after = _changed(state, pause=False)
    return _queued(after, index, after.submitted_seconds) if state.status == "paused" else after


def prioritised(state: JobState, index: int, *, priority: int) -> JobState:
    """A new priority; a waiting job moves at once, a running one when it waits again."""
    if state.terminal:
        raise NotPossible(f"{state.id}: has ended already ({state.status})")
    after = _changed(state, priority=priority)
    return _changed(after, marker_index=index) if state.status == "queued" else after


def revived(state: JobState, index: int, *, from_checkpoint: bool, now_seconds: float) -> JobState:
    """A job that ended without success goes back to the queue with fresh budgets."""
    if state.status not in REVIVABLE:
        raise NotPossible(
            f"{state.id}: is {state.status}; only a failed, cancelled or dead job can be tried again",
            hint="submit the spec again to run it anew" if state.terminal else f"gankiln why {state.id}",
        )
    after = _changed(
        state, failures=0, interruptions=0, lost=0, run_seconds=0.0, avoid_nodes=(), cancel=None, pause=False, files=()
    )
    if not from_checkpoint:
        after = _changed(after, resume_from=None)
    after = _changed(after, revivals=state.revivals + 1, finished_seconds=0.0)
    return _queued(after, index, now_seconds)


def pruned(state: JobState, index: int) -> JobState:
    """What its attempts left is about to be deleted: a later `retry` starts from nothing."""
    if not state.terminal:
        raise NotPossible(f"{state.id}: is {state.status}, so its attempts are still needed")
    return _changed(state, resume_from=None)


def _set_aside(state: JobState, index: int, now_seconds: float) -> JobState:
    """No longer in the queue because somebody asked: cancelled, or else paused."""
    if state.cancel is None:
        return _changed(state, status="paused", marker_index=index, worker="", node="")
    failure = Failure.of(state.cancel.reason, state.cancel.message or REASONS[state.cancel.reason].sentence)
    return _terminal(_changed(state, failure=failure), "cancelled", index, now_seconds, files=state.files)


def _given_up(
    state: JobState,
    index: int,
    now_seconds: float,
    reason: Literal["too_many_lost_workers", "too_many_interruptions", "queue_timeout"],
    message: str,
) -> JobState:
    failure = Failure.of(reason, message, log_lines=state.failure.log_tail if state.failure else ())
    return _terminal(_changed(state, failure=failure), "dead", index, now_seconds, files=())


def _terminal(
    state: JobState, status: Status, index: int, now_seconds: float, *, files: tuple[OutputFile, ...]
) -> JobState:
    return _changed(state, status=status, marker_index=index, finished_seconds=now_seconds, files=files)


def _queued(state: JobState, index: int, queued_seconds: float) -> JobState:
    return _changed(state, status="queued", marker_index=index, queued_seconds=queued_seconds, worker="", node="")


def _attempt_ended(state: JobState, checkpoint: Checkpoint | None, seconds: float) -> JobState:
    """The next attempt starts from this attempt's last checkpoint, or from where this one started."""
    return _changed(
        state, resume_from=checkpoint or state.resume_from, run_seconds=state.run_seconds + max(0.0, seconds)
    )


def _changed(state: JobState, **fields: Any) -> JobState:
    return state.model_copy(update=fields)
