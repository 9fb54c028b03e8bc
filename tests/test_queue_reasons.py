"""Every reason has a sentence and a next command, and every exit code has a reason."""

import re
from typing import get_args

import pytest

from jobs import errors
from service.queue.reasons import REASONS, Reason, reason_of_exit_code


def test_the_catalogue_is_complete() -> None:
    assert set(REASONS) == set(get_args(Reason))


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_tells_what_and_what_next(reason: Reason) -> None:
    facts = REASONS[reason]
    assert re.fullmatch(r"[A-Z].{15,}\.", facts.sentence)
    command = facts.next_command.format(id="ID", name="NAME")
    assert command.startswith("gankiln ")
    assert "{" not in command


def test_every_error_of_a_job_has_its_reason() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GankilnError)]
    for kind in kinds:
        reason = reason_of_exit_code(kind.exit_code)
        if kind.action in ("reject", "fail"):
            assert REASONS[reason].retry == "never", kind
        if kind.action == "retry":
            assert REASONS[reason].retry == "anywhere", kind
        if kind.action == "retry_elsewhere":
            assert REASONS[reason].retry == "elsewhere", kind


@pytest.mark.parametrize("exit_code", [-9, -11, 137, 143])
def test_signals_are_kills(exit_code: int) -> None:
    assert reason_of_exit_code(exit_code) == "killed"


@pytest.mark.parametrize("exit_code", [1, 2, 42, 128])
def test_unknown_codes_are_internal(exit_code: int) -> None:
    assert reason_of_exit_code(exit_code) == "internal_error"
