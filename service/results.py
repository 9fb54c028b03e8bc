"""`gankiln results` and `gankiln logs`: what a job left, brought here and verified."""

from collections.abc import Iterator
from pathlib import Path

from jobs.errors import DataError
from service.cache import sha256_of
from service.queue import JobState, NotPossible, OutputFile, Queue, keys
from service.restore import restore
from service.store import KeyNotFound, Store, check_key


def fetch_results(queue: Queue, job: str, out: Path) -> tuple[JobState, list[Path]]:
    """The published files of a job that ended, below `out`; files that are there already are not fetched again.

    Raises NotPossible while the job runs or where it left nothing, DataError when a file is not what was committed.
    """
    state = queue.job(job).state
    if not state.terminal:
        raise NotPossible(
            f"{state.id}: is {state.status}; it has no results yet",
            hint=f"gankiln results {state.id} --out DIR --partial fetches its last checkpoint and sample grids",
        )
    if not state.files:
        raise NotPossible(f"{state.id}: {state.status} without leaving any file", hint=f"gankiln why {state.id}")
    return state, [_fetch_file(queue.store, state, file, out) for file in state.files]


def fetch_partial(queue: Queue, job: str, out: Path) -> tuple[JobState, list[Path]]:
    """The run directory of a job's last published checkpoint: `gankiln run` with its spec goes on from it."""
    view = queue.job(job)
    state = view.state
    told = view.heartbeat.progress.checkpoint if view.heartbeat else None
    base = told or state.resume_from
    if base is None:
        raise NotPossible(f"{state.id}: has not published a checkpoint yet", hint=f"gankiln why {state.id}")
    _, stored = restore(queue.store, state.id, base, out, epoch=state.epoch + 1)
    return state, [out / path for path in sorted(stored)]


def _fetch_file(store: Store, state: JobState, file: OutputFile, out: Path) -> Path:
    """From results/, or from the attempt where somebody deleted it there."""
    path = out / check_key(file.path)
    if path.is_file() and path.stat().st_size == file.size_bytes and sha256_of(path) == file.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (keys.results(state), state.attempt_prefix):
        try:
            store.download(f"{folder}/{file.path}", path)
        except KeyNotFound:
            continue
        if sha256_of(path) == file.sha256:
            return path
        path.unlink()
    raise DataError(
        f"{file.path}: is missing, or not the file that was committed ({file.sha256[:12]}...)",
        hint="somebody changed or deleted it in the store; the other files may be intact",
    )


class LogReader:
    """A job's output, piece by piece, over all its attempts or one of them."""

    def __init__(self, queue: Queue, job: str, *, attempt: int | None = None) -> None:
        self._queue = queue
        self._attempt = attempt
        self._last: dict[int, str] = {}
        self.job_id = queue.views.find(job)
        self.ended = False
        """Whether the job had ended when `new` looked last."""

    def new(self) -> Iterator[str]:
        """What was not read yet, oldest first. Raises NotPossible for an attempt that there was not."""
        view = self._queue.job(self.job_id)
        self.ended = view.state.terminal
        epochs = [entry.index for entry in view.history if entry.kind in ("claim", "take_over") and entry.state.epoch]
        if self._attempt is not None:
            if not 1 <= self._attempt <= len(epochs):
                raise NotPossible(f"{self.job_id}: has had {len(epochs)} attempts, none is numbered {self._attempt}")
            epochs = [epochs[self._attempt - 1]]
        for epoch in epochs:
            yield from self._new_of(epoch)

    def last_words(self) -> tuple[str, ...]:
        """The last lines of the attempt that failed, where its log did not come as far as the store."""
        failure = self._queue.job(self.job_id).state.failure
        return failure.log_tail if failure else ()

    def _new_of(self, epoch: int) -> Iterator[str]:
        prefix = f"jobs/{self.job_id}/attempts/{epoch:08d}/log/"
        for stat in self._queue.store.list(prefix, start_after=self._last.get(epoch, "")):
            yield self._queue.store.get(stat.key).decode(errors="replace")
            self._last[epoch] = stat.key
