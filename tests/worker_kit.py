"""What tests of the worker share: specs with a behaviour, a worker with short intervals, the expected result."""

import hashlib
import io
import json
import sys
import threading
from pathlib import Path

from service.queue import Queue
from service.settings import Settings
from service.store import DirectoryStore
from service.telemetry import logs
from service.telemetry.gpu import NvidiaLibrary
from service.telemetry.observer import Observer
from service.worker import Worker

FAKE_JOB = Path(__file__).with_name("fake_job.py")
SPEC = """name: {name}
{question}recipe:
  kind: stylegan2
  data: {data}
training:
  images: 200
  device: cpu
queue:
{queue}
"""


def spec_text(name="job", data="{kind: modegrid, images: 600}", queue="  priority: 50", **behaviour):
    question = f"question: '{json.dumps(behaviour)}'\n" if behaviour else ""
    return SPEC.format(name=name, question=question, data=data, queue=queue)


def final_state(steps=20):
    """What a fake job ends with, however often it was interrupted."""
    state = b"start"
    for _ in range(steps):
        state = hashlib.sha256(state).digest()
    return state.hex()


def fake_command(files, brought, job):
    return [sys.executable, str(FAKE_JOB), str(files.spec), "--out", str(files.run_dir)]


def fast_settings(home, **overrides):
    """Intervals of a second or less."""
    values = {
        "home": home,
        "heartbeat_seconds": 0.2,
        "ttl_seconds": 2.0,
        "poll_seconds": 0.2,
        "grace_seconds": 10.0,
        "drain_seconds": 10.0,
        "log_seconds": 0.3,
        "backoff_seconds": 0.2,
        "backoff_max_seconds": 0.5,
        "metrics_port": 0,
    }
    return Settings(**{**values, **overrides})


class Station:
    """A store, a person's queue, and workers beside them."""

    def __init__(self, tmp_path, store=None, **overrides):
        self.tmp_path = tmp_path
        self.store = store or DirectoryStore(tmp_path / "store", durable=False)
        self.settings = fast_settings(tmp_path / "home", **overrides)
        self.queue = Queue(self.store, worker_id="person", settings=self.settings.queue_settings(polls_are_free=True))
        self.lines = io.StringIO()

    def submit(self, **spec):
        text = spec_text(**spec)
        return self.queue.submit(text.encode(), spec.get("name", "job"))

    def worker(self, **options):
        log = logs.configure(format="json", redact=str, stream=self.lines, level="debug")
        options = {"command_line": fake_command, "gpus": 0, **options}
        settings = options.pop("settings", self.settings)
        return Worker(self.store, settings, Observer(log, gpus=NvidiaLibrary("none.so")), **options)

    def work(self, **options):
        """One worker, until nothing is left to do."""
        self.worker(**options).run(exit_when_idle_seconds=0)

    def start(self, worker):
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        return thread

    def state(self, job_id):
        return self.queue.job(job_id).state

    def said(self, action):
        lines = [json.loads(line) for line in self.lines.getvalue().splitlines()]
        return [line for line in lines if line.get("action") == action]

    def result(self, job_id, name="job"):
        """The published files of a job, their hashes checked against its flag."""
        prefix = f"results/{name}/{job_id}/"
        files = {stat.key.removeprefix(prefix): self.store.get(stat.key) for stat in self.store.list(prefix)}
        flags = {name for name in files if name.startswith("_")}
        assert len(flags) <= 1
        if flags:
            flag = json.loads(files.pop(flags.pop()))
            assert flag["missing"] == []
            assert {path: hashlib.sha256(data).hexdigest() for path, data in files.items()} == flag["sha256"]
        return files
