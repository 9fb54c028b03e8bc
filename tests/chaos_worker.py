"""One worker of the chaos test: real worker, light jobs, and a store that writes down what it was asked and answered.

    python -m tests.chaos_worker STORE HOME HISTORY DOWN

While the file DOWN exists the store does not answer. HISTORY gets one JSON object a line for every operation on a job's
log, before a create is sent and after each answer: a killed process leaves a create without an answer.
"""

import json
import sys
import threading
import time
from pathlib import Path

from service.signals import on_signals
from service.store import KeyNotFound, Unavailable, open_store
from service.telemetry import logs
from service.telemetry.gpu import NvidiaLibrary
from service.telemetry.observer import Observer
from service.worker import Worker
from tests.worker_kit import fake_command, fast_settings


class Recording:
    """A store that can be away, and remembers operations on logs."""

    def __init__(self, store, history, down):
        self._store = store
        self._down = down
        self._file = history.open("a")
        self._lock = threading.Lock()
        self._count = 0

    def __getattr__(self, name):
        value = getattr(self._store, name)
        if not callable(value) or name in ("server_time_seconds", "clock_skew_seconds", "observer"):
            return value

        def request(*args, **kwargs):
            if self._down.exists():
                raise Unavailable("the store is down")
            answer = value(*args, **kwargs)
            return iter(list(answer)) if name == "list" else answer

        return request

    def create(self, key, data):
        if self._down.exists():
            raise Unavailable("the store is down")
        if "/log/" not in key or not key.endswith(".json"):
            return self._store.create(key, data)
        number = self._note(key, kind="append", nonce=json.loads(data)["nonce"], asked=time.monotonic())
        created = self._store.create(key, data)
        self._note(key, of=number, created=created, answered=time.monotonic())
        return created

    def get(self, key):
        if self._down.exists():
            raise Unavailable("the store is down")
        if "/log/" not in key or not key.endswith(".json"):
            return self._store.get(key)
        asked = time.monotonic()
        try:
            data = self._store.get(key)
        except KeyNotFound:
            self._note(key, kind="read", nonce=None, asked=asked, answered=time.monotonic())
            raise
        self._note(key, kind="read", nonce=json.loads(data)["nonce"], asked=asked, answered=time.monotonic())
        return data

    def _note(self, key, **facts):
        with self._lock:
            self._count += 1
            self._file.write(json.dumps({"number": self._count, "key": key, **facts}) + "\n")
            self._file.flush()
            return self._count


def main():
    url, home, history, down = sys.argv[1:]
    store = Recording(open_store(url), Path(history), Path(down))
    log = logs.configure(format="json", redact=str, level="info")
    settings = fast_settings(
        Path(home), ttl_seconds=2.5, heartbeat_seconds=0.4, max_lost=100, max_interruptions=100, quarantine_failures=50
    )
    worker = Worker(store, settings, Observer(log, gpus=NvidiaLibrary("none.so")), command_line=fake_command, gpus=0)
    with on_signals(worker.drain):
        worker.run()


if __name__ == "__main__":
    main()
