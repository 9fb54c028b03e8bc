"""SIGTERM and SIGINT ask for a stop after the current step; a second one ends the process at once."""

import signal
from types import FrameType

received: int | None = None
"""The signal that asked for the stop."""


def listen() -> None:
    """From now on, signals are noted instead of ending the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)


def asked() -> bool:
    """Whether somebody asked for a stop."""
    return received is not None


def _note(number: int, _frame: FrameType | None) -> None:
    global received
    if received is not None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    received = number
