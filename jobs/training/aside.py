"""What a run writes beside its training: checkpoints and pictures, by one thread, in order."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

MOST_WAITING = 2
"""Things to be written at a time: each may hold a copy of all weights in main memory."""


class Aside:
    """A thread that writes while training goes on. Leaving it waits for what is still being written.

    An error of a writing is raised by the next call, or on leaving; where the training raised one itself, that one is
    told.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "gankiln-writer")
        self._writing: deque[Future[None]] = deque()

    def do(self, write: Callable[[], None]) -> None:
        """Has `write` called soon. Waits first where too much is waiting already."""
        while len(self._writing) >= MOST_WAITING:
            self._writing.popleft().result()
        self._writing.append(self._pool.submit(write))

    def finish(self) -> None:
        """Waits until everything is written."""
        while self._writing:
            self._writing.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self.finish()
