"""The heartbeat of a running attempt: in a thread of the worker, never of the training process."""

import math
import random
import threading
from collections.abc import Callable

from jobs.errors import GankilnError
from service.queue import Fenced, JobState, Lease, Progress
from service.supervisor import StopSwitch
from service.telemetry.observer import Observer

JITTER = 0.1


class Heart:
    """Beats until `stop`, and turns what it hears into a request to stop.

    A cancel or a pause asks for a last checkpoint; a lost claim kills at once; a store that was silent for
    `orphan_seconds` probably means that the claim is lost, so the job saves itself and waits. An error of the store
    alone never touches the job. Until `stop`, nobody else ends the lease.
    """

    def __init__(
        self,
        lease: Lease,
        stop: StopSwitch,
        observer: Observer,
        *,
        progress: Callable[[], Progress],
        on_beat: Callable[[Progress], None],
        heartbeat_seconds: float,
        grace_seconds: float,
        orphan_seconds: float,
    ) -> None:
        self._lease = lease
        self._stop = stop
        self._observer = observer
        self._progress = progress
        self._on_beat = on_beat
        self._heartbeat_seconds = heartbeat_seconds
        self._grace_seconds = grace_seconds
        self._orphan_seconds = orphan_seconds
        self._heard = False
        """Whether the last beat was stored and the claim is still ours."""
        self._last_beat = False
        self._over = threading.Event()
        self._now = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, within_seconds: float = math.inf) -> bool:
        """One last beat, then none; afterwards the lease belongs to the caller alone. May be called again.

        False when a request to the store is still under way after `within_seconds`.
        """
        if self._over.is_set() and not self._thread.is_alive():
            return True
        self._last_beat = self._heard  # the last word of the attempt; a store that is out has had its chance
        self._over.set()
        self._now.set()
        self._thread.join(None if within_seconds == math.inf else within_seconds)
        return not self._thread.is_alive()

    def beat_soon(self) -> None:
        """There is something worth telling: a published checkpoint."""
        self._now.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._now.clear()
            self._beat()
            self._now.wait(self._heartbeat_seconds * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
        if self._last_beat and self._heard:
            self._beat()

    def _beat(self) -> None:
        progress = self._progress()
        self._heard = False
        try:
            self._obey(self._lease.beat(progress))
        except Fenced:
            self._stop.ask("fenced", 0.0)
            self._over.set()
            return
        except Exception as error:  # whatever it is, the next beat may succeed and the job goes on
            if not isinstance(error, GankilnError):
                self._observer.complain("heartbeat", error)
            self._observer.heartbeat(stored=False)
            if self._lease.silent_seconds > self._orphan_seconds:
                self._stop.ask("store_outage", self._grace_seconds)
            return
        self._heard = True
        self._observer.heartbeat(stored=True)
        self._on_beat(progress)

    def _obey(self, state: JobState) -> None:
        if state.cancel:
            self._stop.ask("cancelled", self._grace_seconds)
        elif state.pause:
            self._stop.ask("paused", self._grace_seconds)
