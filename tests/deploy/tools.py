"""What the tests of this folder share: tools that may be missing, processes that end with the test, waiting."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("DEPLOY_TOOLS", ROOT / ".deploy-tools"))
"""Where tests/deploy/install-tools put a Docker engine; it goes before what is installed."""
SPEC = """
name: {name}
seed: 1
recipe:
  kind: stylegan2
  data: {{kind: modegrid, resolution: 32, images: 256, shapes: 2, hues: 2, positions: 1}}
  preset: auto
  generator: {{channels_base: 128, channels_max: 16, latent: 16, style: 16}}
  r1: {{gamma: 1.0, interval: 4}}
  path_length: {{interval: 2}}
  augmentation: {{kind: ada}}
training:
  images: {images}
  batch: 16
  precision: fp32
  device: cpu
  checkpoint_images: {checkpoint_images}
  sample_images: {checkpoint_images}
  progress_seconds: 0.5
  grid: [4, 2]
diagnosis: {{grace_images: 0, samples: 32}}
evaluation: {{samples: 32, features: [pixels], metrics: [fd], batch: 32, every_images: {checkpoint_images}}}
"""
Found = TypeVar("Found")


def spec(name: str, images: int = 256) -> str:
    """A job of seconds on a CPU that also evaluates, draws and saves itself on the way."""
    return SPEC.format(name=name, images=images, checkpoint_images=max(16, images // 4))


def missing(what: str) -> NoReturn:
    """Skips the test on a laptop, fails it where CI is set."""
    message = f"{what}; tests/deploy/install-tools brings it on Debian"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def program(name: str) -> str:
    """The path of a program, of the unpacked tools first."""
    found = shutil.which(name, path=f"{TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return found or missing(f"no {name}")


def run(*command: object, **options) -> str:
    """The output of a command; a failed one shows what it said."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    answer = subprocess.run([str(part) for part in command], text=True, **(streams | options))
    said = f"{answer.stdout[-4000:]}{(answer.stderr or '')[-4000:]}"
    assert answer.returncode == 0, f"{' '.join(map(str, command))}\n{said}"
    return answer.stdout


def wait_for(what: str, ask: Callable[[], Found], seconds: float, every_seconds: float = 0.5) -> Found:
    """The first answer of `ask` that is true."""
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(every_seconds)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def process(*command: object, log: Path, stop_seconds: float = 30.0, **options) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends by SIGTERM when the block does."""
    with log.open("wb") as file:
        running = subprocess.Popen([str(part) for part in command], stdout=file, stderr=subprocess.STDOUT, **options)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(stop_seconds)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
