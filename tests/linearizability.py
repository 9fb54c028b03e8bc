"""Is a recorded history of one job's log linearizable? A small checker after Wing and Gong, 1993.

The object is an append-only log. `append(i, nonce)` succeeds only when the log has i-1 entries; `lose(i)` says that
index i was taken by another; `read(i)` returns the nonce at i, or None when the log is shorter. A history is
linearizable when each operation can be given one moment between being asked and being answered so that, in that order,
the log obeys. An append without an answer may have happened at any moment after it was asked, or never.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as its caller saw it. Times in seconds of one clock; `answered` None: it never was."""

    kind: Literal["append", "lose", "read"]
    index: int
    nonce: str | None
    asked: float
    answered: float | None


def check_log_history(operations: list[Operation]) -> str | None:
    """None when the history is linearizable, else where it could not go on.

    Depth-first over the choice of the next operation; the log's state follows from the order, so configurations
    (which operations are done) are remembered and visited once.
    """
    history = sorted(operations, key=lambda operation: operation.asked)
    if not history:
        return None
    first = _Configuration(frozenset(), 0, ())
    stack, seen, furthest = [first], {first}, first
    while stack:
        here = stack.pop()
        if here.prefix > furthest.prefix:
            furthest = here
        following = _following(here, history)
        if following is None:
            return None
        for configuration in following:
            if configuration not in seen:
                seen.add(configuration)
                stack.append(configuration)
    return f"stuck at {history[furthest.prefix]} with a log of {len(furthest.log)} entries"


@dataclass(frozen=True, slots=True)
class _Configuration:
    """Operations 0 to prefix-1 of the history are done, and those in `beyond`."""

    beyond: frozenset[int]
    prefix: int
    log: tuple[str, ...]


def _following(here: _Configuration, history: list[Operation]) -> list[_Configuration] | None:
    """Configurations one operation further; None when all that was answered is done."""
    following = []
    earliest_answer = inf
    left = False
    for number in range(here.prefix, len(history)):
        if number in here.beyond:
            continue
        operation = history[number]
        if operation.asked > earliest_answer:
            break  # something that was answered before this was asked must come first
        if operation.answered is not None:
            left = True
            earliest_answer = min(earliest_answer, operation.answered)
        following.extend(_done(here, number, log, history) for log in _outcomes(operation, here.log))
    return following if left else None


def _outcomes(operation: Operation, log: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The logs that may follow when the operation takes effect now; none when it cannot."""
    fits = len(log) == operation.index - 1
    match operation.kind:
        case "append" if operation.answered is None:
            return [log, (*log, str(operation.nonce))] if fits else [log]  # it may never have happened
        case "append":
            return [(*log, str(operation.nonce))] if fits else []
        case "lose":
            taken = len(log) >= operation.index and log[operation.index - 1] != operation.nonce
            return [log] if taken else []
        case "read":
            found = log[operation.index - 1] if len(log) >= operation.index else None
            return [log] if found == operation.nonce else []


def _done(here: _Configuration, number: int, log: tuple[str, ...], history: list[Operation]) -> _Configuration:
    beyond, prefix = here.beyond | {number}, here.prefix
    while prefix in beyond:
        beyond, prefix = beyond - {prefix}, prefix + 1
    return _Configuration(beyond, prefix, log)
