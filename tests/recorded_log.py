"""When each operation on a job's log was asked and answered, on the real code, for the check of linearizability."""

import time
from collections import defaultdict
from collections.abc import Callable

from service.queue import Entry, Queue
from service.queue.log import Head
from tests.linearizability import Operation

Operations = dict[str, list[Operation]]


def record(
    queue: Queue,
    *,
    now: Callable[[], float] = time.monotonic,
    keep: Callable[[str, Operation], None] | None = None,
    operations: Operations | None = None,
) -> Operations:
    """Record what `queue` reads and appends from here on, into `operations`; `keep` may write it to a file as well.

    An append is kept twice, before it is asked (unanswered) and when it was answered: a killed process never comes back
    to tell. `now` must be one clock for all recorders of a history (CLOCK_MONOTONIC is, on one machine).
    """
    operations = defaultdict(list) if operations is None else operations
    log, read, append = queue.log, queue.log._read, queue.log.append

    def add(job_id: str, operation: Operation) -> int:
        operations[job_id].append(operation)
        if keep:
            keep(job_id, operation)
        return len(operations[job_id]) - 1

    def recorded_read(job_id: str, index: int) -> object:
        asked = now()
        found = read(job_id, index)
        nonce = found.nonce if isinstance(found, Entry) else None
        add(job_id, Operation("read", index, nonce, asked, now()))
        return found

    def recorded_append(index, draft, state) -> Head | None:
        asked = now()
        slot = add(state.id, Operation("append", index, draft.nonce, asked, None))
        head = append(index, draft, state)
        answered = Operation("append" if head else "lose", index, draft.nonce, asked, now())
        operations[state.id][slot] = answered
        if keep:
            keep(state.id, answered)
        return head

    log._read, log.append = recorded_read, recorded_append
    return operations


def merge(kept: list[tuple[str, Operation]]) -> Operations:
    """What `keep` was told, with the first telling of an append replaced by the second."""
    merged: dict[str, dict[object, Operation]] = defaultdict(dict)
    for number, (job_id, operation) in enumerate(kept):
        identity = number if operation.kind == "read" else (operation.nonce, operation.index, operation.asked)
        merged[job_id][identity] = operation
    return {job_id: [*found.values()] for job_id, found in merged.items()}
