"""Signals become calls in an ordinary thread."""

import os
import signal
import subprocess
import sys
import threading

from service.signals import on_signals


def test_a_signal_calls_stop_once_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    called = threading.Event()
    with on_signals(called.set):
        os.kill(os.getpid(), signal.SIGTERM)
        assert called.wait(5)
        assert threading.current_thread() is threading.main_thread()
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_second_signal_ends_the_process_at_once():
    script = (
        "import os, signal, threading, time\n"
        "from service.signals import on_signals\n"
        "asked = threading.Event()\n"
        "with on_signals(asked.set):\n"
        "    os.kill(os.getpid(), signal.SIGTERM); asked.wait()\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=30).returncode == 128 + signal.SIGTERM
