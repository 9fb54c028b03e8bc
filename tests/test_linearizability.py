"""The checker accepts what it must and refuses what it must, compared with trying every order."""

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearizability import Operation, check_log_history


def append(index: int, nonce: str, asked: float, answered: float | None) -> Operation:
    return Operation("append", index, nonce, asked, answered)


def lose(index: int, nonce: str, asked: float, answered: float) -> Operation:
    return Operation("lose", index, nonce, asked, answered)


def read(index: int, nonce: str | None, asked: float, answered: float) -> Operation:
    return Operation("read", index, nonce, asked, answered)


def test_one_after_another() -> None:
    assert check_log_history([]) is None
    assert (
        check_log_history([append(1, "a", 0, 1), read(1, "a", 2, 3), read(2, None, 4, 5), append(2, "b", 6, 7)]) is None
    )


def test_two_winners_are_refused() -> None:
    assert check_log_history([append(1, "a", 0, 2), append(1, "b", 1, 3)]) is not None


def test_a_winner_and_a_loser_at_once() -> None:
    assert check_log_history([lose(1, "b", 0, 3), append(1, "a", 1, 2)]) is None
    assert check_log_history([lose(1, "b", 0, 1), append(1, "a", 2, 3)]) is not None  # lost before anybody won


def test_a_read_that_is_stale_or_from_the_future() -> None:
    assert check_log_history([append(1, "a", 0, 1), read(1, None, 2, 3)]) is not None
    assert check_log_history([read(1, "a", 0, 1), append(1, "a", 2, 3)]) is not None
    assert check_log_history([append(1, "a", 0, 3), read(1, None, 1, 2)]) is None


def test_a_lost_answer_may_have_happened_or_not() -> None:
    assert check_log_history([append(1, "a", 0, None), read(1, None, 2, 3), read(1, "a", 4, 5)]) is None
    assert check_log_history([append(1, "a", 0, None), read(1, None, 2, 3), append(1, "b", 4, 5)]) is None
    assert check_log_history([append(1, "a", 0, None), read(1, "a", 2, 3), append(1, "b", 4, 5)]) is not None
    assert check_log_history([append(1, "a", 0, None), read(1, "a", 2, 3), read(1, None, 4, 5)]) is not None


def test_an_append_beyond_the_end_is_refused() -> None:
    assert check_log_history([append(2, "a", 0, 1)]) is not None


def _obeys(order: tuple[Operation, ...]) -> bool:
    """Whether the operations, in this order and all of them done, are what a log answers."""
    log: list[str | None] = []
    for operation in order:
        found = log[operation.index - 1] if operation.index <= len(log) else None
        allowed = {
            "append": operation.index == len(log) + 1,
            "lose": found is not None and found != operation.nonce,
            "read": found == operation.nonce,
        }
        if not allowed[operation.kind]:
            return False
        if operation.kind == "append":
            log.append(operation.nonce)
    return True


def _respects_time(order: tuple[Operation, ...]) -> bool:
    return all(
        later.answered is None or later.answered >= earlier.asked
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def _brute_force(history: list[Operation]) -> bool:
    unanswered = [operation for operation in history if operation.answered is None]
    answered = [operation for operation in history if operation.answered is not None]
    for mask in range(2 ** len(unanswered)):
        chosen = answered + [operation for bit, operation in enumerate(unanswered) if mask >> bit & 1]
        if any(_respects_time(order) and _obeys(order) for order in permutations(chosen)):
            return True
    return False


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    asked = draw(st.integers(0, 6))
    kind = draw(st.sampled_from(["append", "append", "lose", "read"]))
    nonce = draw(st.sampled_from(["a", "b", "c"] + ([None] if kind == "read" else [])))
    answered = asked + draw(st.integers(1, 4))
    unknown = kind == "append" and draw(st.booleans())
    return Operation(kind, draw(st.integers(1, 2)), nonce, asked, None if unknown else answered)


@settings(max_examples=400, deadline=None)
@given(st.lists(operations(), max_size=5))
def test_it_agrees_with_trying_every_order(history: list[Operation]) -> None:
    assert (check_log_history(history) is None) == _brute_force(history)
