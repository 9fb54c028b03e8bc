"""A real worker whose driver library tells of a GPU that is not there: its GPU series exist, its jobs run on the CPU.

python -m tests.deploy.gpu_worker
"""

import math
import time
from importlib.metadata import version

from service import settings as environment
from service.redact import Redactor
from service.signals import on_signals
from service.store import open_store
from service.telemetry import logs
from service.telemetry.gpu import Gpu, NvidiaLibrary
from service.telemetry.observer import Observer
from service.worker import Worker, open_port


class OneGpu(NvidiaLibrary):
    """What NVML would say of one GPU that is more or less busy."""

    def __init__(self):
        super().__init__("no-such-library.so")

    def gpus(self):
        return [Gpu(0, "imagined", 0.6 + 0.3 * math.sin(time.monotonic()), 20 << 30, 80 << 30)]


def main():
    settings = environment.load()
    log = logs.configure(format="json", level="info", redact=Redactor(()))
    observer = Observer(log, gpus=OneGpu())
    observer.built(version("gankiln"), version("torch"))
    worker = Worker(open_store(settings.store), settings, observer, gpus=1)
    open_port(worker)
    with on_signals(worker.drain):
        worker.run()


if __name__ == "__main__":
    main()
