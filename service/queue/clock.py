"""Durations for ownership: a monotonic clock that counts while a virtual machine is suspended."""

import time
from typing import Protocol


class Clock(Protocol):
    """The only clock that decides about ownership. Tests and the simulation bring their own."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back, also counts suspended time."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """CLOCK_BOOTTIME where the system has it (Linux), else the monotonic clock of Python."""

    def __init__(self) -> None:
        self._clock_id: int | None = getattr(time, "CLOCK_BOOTTIME", None)

    def monotonic(self) -> float:
        return time.monotonic() if self._clock_id is None else time.clock_gettime(self._clock_id)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
