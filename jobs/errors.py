"""Why a job stopped, named by what the worker should do next.

    GankilnError
    ├── SpecError         64  reject: the submitter must change the spec
    ├── DataError         65  fail:   the data is missing or corrupt
    ├── DoesNotFit        66  fail:   no batch fits into the device's memory
    ├── Diverged          67  fail:   a loss left the numbers, or a verdict stopped the run
    ├── InternalError     70  retry:  our bug
    ├── DeviceError       71  retry elsewhere: driver, NCCL, a broken GPU
    ├── StoreError        74  retry:  the bucket or the disk
    ├── Interrupted       75  release: asked to stop; run again to go on
    └── PermissionDenied  77  fail:   credentials are missing or too narrow

A message says first which field or key, then what was asked, what was got and why it matters; `hint` says what to do.
"""

from typing import ClassVar, Literal

Action = Literal["reject", "fail", "retry", "retry_elsewhere", "release"]


class GankilnError(Exception):
    """Something stopped the job."""

    exit_code: ClassVar[int] = 70
    action: ClassVar[Action] = "retry"

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class SpecError(GankilnError):
    """The spec cannot be run as it is written."""

    exit_code = 64
    action = "reject"


class DataError(GankilnError):
    """The data is missing, empty or corrupt."""

    exit_code = 65
    action = "fail"


class DoesNotFit(GankilnError):
    """No batch size fits into the memory of this device."""

    exit_code = 66
    action = "fail"


class Diverged(GankilnError):
    """A loss is no longer a finite number; the last good checkpoint is kept."""

    exit_code = 67
    action = "fail"


class InternalError(GankilnError):
    """An error of gankiln itself."""


class DeviceError(GankilnError):
    """The accelerator or its driver failed."""

    exit_code = 71
    action = "retry_elsewhere"


class StoreError(GankilnError):
    """The store did not answer as it must."""

    exit_code = 74


class Interrupted(GankilnError):
    """Asked to stop before the end; run the same command again to go on."""

    exit_code = 75
    action = "release"


class PermissionDenied(GankilnError):
    """The credentials do not allow what the job needs."""

    exit_code = 77
    action = "fail"
