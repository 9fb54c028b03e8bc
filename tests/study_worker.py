"""A real worker process whose runs are stand-ins:  python -m tests.study_worker STORE HOME"""

import sys
from pathlib import Path

from service.signals import on_signals
from service.store import open_store
from service.telemetry import logs
from service.telemetry.gpu import NvidiaLibrary
from service.telemetry.observer import Observer
from service.worker import Worker
from tests.worker_kit import fast_settings

STUDY_JOB = Path(__file__).with_name("study_job.py")


def study_command(files, brought, job):
    return [sys.executable, str(STUDY_JOB), str(files.spec), "--out", str(files.run_dir)]


def main():
    url, home = sys.argv[1:]
    log = logs.configure(format="json", redact=str, level="info")
    settings = fast_settings(Path(home))
    worker = Worker(
        open_store(url), settings, Observer(log, gpus=NvidiaLibrary("none.so")), command_line=study_command, gpus=0
    )
    with on_signals(worker.drain):
        worker.run(exit_when_idle_seconds=0)


if __name__ == "__main__":
    main()
