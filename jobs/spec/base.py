"""What every section of a spec shares: frozen, closed, and forgiving of nothing."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of a spec. Unknown keys are refused; values never change after they were read."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class InputFile:
    """Marks a field whose text names a file or directory that the job reads.

    `gankiln run` reads it from a disk. A worker fetches it first, where it is an address or in the store; or, where
    it is `streamed` (a directory of shards), brings each file when the job asks for it.
    """

    def __init__(self, *, streamed: bool = False) -> None:
        self.streamed = streamed
