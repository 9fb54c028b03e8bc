"""SIGTERM and SIGINT as a call in an ordinary thread: a signal handler itself may not take a lock."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """While inside, a first SIGTERM or SIGINT calls `stop` in a thread; a second one ends the process at once.

    Only in the main thread. A job of the worker dies with it (see guardian.py); its claim is taken over by others.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, lambda *_: None) for number in STOP}
    wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        received = 0
        while data := os.read(reader, 64):
            for number in filter(STOP.__contains__, data):
                received += 1
                if received > 1:
                    os._exit(128 + number)
                stop()

    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        thread.join()
        os.close(reader)
