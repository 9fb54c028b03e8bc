"""What a worker costs beside the training that it watches: its share of one core, and of the machine's memory.

    python -m tests.benchmarks.bench_worker --seconds 60

Two jobs run under a worker with its default intervals, one that only trains and one that also saves a checkpoint four
times a minute; the job itself does almost nothing, so that what is measured is the worker. The job tells of its
progress once a second, ten times as often as by default. CPU time counts the worker, all its threads, and the guardian.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from service.queue import Queue, QueueSettings
from service.store import DirectoryStore
from tests.worker_kit import spec_text

WORKER = """
import sys
from functools import partial
from pathlib import Path
from service.settings import Settings
from service.store import DirectoryStore
from service.worker import start
from tests.worker_kit import fake_command
settings = Settings(home=Path(sys.argv[2]), metrics_port=0)
start(DirectoryStore(Path(sys.argv[1])), settings, command_line=fake_command).run()
"""


def measure(seconds: float, checkpoint_bytes: int) -> dict[str, float]:
    """CPU seconds and memory of a worker over `seconds` of one job's training."""
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(Path(folder) / "store")
        queue = Queue(store, worker_id="bench", settings=QueueSettings())
        steps = int(seconds) + 60
        every = 15 if checkpoint_bytes else steps
        text = spec_text(steps=steps, seconds=1.0, every=every, weights_bytes=checkpoint_bytes)
        queue.submit(text.encode(), "job")
        command = [sys.executable, "-c", WORKER, str(store.root), f"{folder}/home"]
        with subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL) as process:
            worker = psutil.Process(process.pid)
            while not [
                child for child in worker.children(recursive=True) if "fake_job.py" in " ".join(child.cmdline())
            ]:
                time.sleep(0.2)
            time.sleep(3.0)
            watched = [worker, *worker.children()]
            before = sum(sum(one.cpu_times()[:2]) for one in watched)
            time.sleep(seconds)
            used = sum(sum(one.cpu_times()[:2]) for one in watched) - before
            memory = sum(one.memory_info().rss for one in watched)
            process.terminate()
    return {"cpu_percent_of_one_core": 100 * used / seconds, "memory_mebibytes": memory / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--checkpoint-megabytes", type=int, default=100)
    options = parser.parse_args()
    for name, checkpoint_bytes in (("training", 0), ("with checkpoints", options.checkpoint_megabytes * 10**6)):
        measured = measure(options.seconds, checkpoint_bytes)
        print(
            f"{name:>18}: {measured['cpu_percent_of_one_core']:.2f} % of one core, "
            f"{measured['memory_mebibytes']:.0f} MiB"
        )
    print(
        f"checkpoints of {options.checkpoint_megabytes} MB, four a minute: hashed, copied to a directory store, synced"
    )


if __name__ == "__main__":
    main()
