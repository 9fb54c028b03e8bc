"""Real S3 servers for the tests, started once a test process on free ports of 127.0.0.1.

    seaweedfs   a storage server with every conditional form right and signatures enforced
    ministack   a second, quick one; checks no signature
    rclone      the negative control: ignores `If-None-Match`, so the self-test must refuse it

`pip install '.[s3test]'` brings all three. A missing one skips a test on a laptop and fails it where CI is set.
"""

import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ServerName = Literal["seaweedfs", "ministack", "rclone"]
GOOD_SERVERS: tuple[ServerName, ...] = ("seaweedfs", "ministack")
START_SECONDS = 60.0
GRPC = 10_000  # SeaweedFS also listens on each port plus this
PORTS = (12_000, 22_000)

AWS_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)


@dataclass
class S3Server:
    """A server that runs."""

    name: ServerName
    endpoint: str
    access_key: str
    secret_key: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which `open_store("s3://...")` finds it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self):
        """A plain client, for what a test does behind the store's back."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                retries={"total_max_attempts": 1},
                connect_timeout=2,
                read_timeout=10,
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def make_bucket(self) -> str:
        """A new, empty bucket."""
        name = f"gankiln-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def log(self) -> str:
        """The end of what it printed."""
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def pause(self) -> None:
        """The store is down: connections are accepted and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def s3_server(name: ServerName) -> S3Server:
    """The server, started on first use and stopped when the test process ends; skips or fails without it."""
    server = _started(name)
    if server.process.poll() is not None:
        raise RuntimeError(f"{name} ended by itself with {server.process.returncode}:\n{server.log()}")
    return server


@cache
def _started(name: ServerName) -> S3Server:
    start: Callable[[Path], S3Server] = {
        "seaweedfs": _start_seaweedfs,
        "ministack": _start_ministack,
        "rclone": _start_rclone,
    }[name]
    server = start(Path(tempfile.mkdtemp(prefix=f"gankiln-{name}-")))
    atexit.register(_stop, server)
    _wait_until_ready(server)
    return server


@contextmanager
def environment_of(server: S3Server) -> Iterator[None]:
    """The process's AWS variables set to the server's, and nothing else of AWS left."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in AWS_VARIABLES:
            patch.delenv(variable, raising=False)
        for variable, value in server.environment.items():
            patch.setenv(variable, value)
        yield


def _program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found:
        return found
    message = f"{name}: not installed; pip install '.[s3test]'"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _free_port() -> int:
    """A port that is free, and so is the one GRPC above it; both below those that the system gives to connections."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as low, socket.socket() as high:
            try:
                low.bind(("127.0.0.1", port))
                high.bind(("127.0.0.1", port + GRPC))
            except OSError:
                continue
            return port


def _popen(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )


def _start_seaweedfs(folder: Path) -> S3Server:
    key, secret = "testkey", "testsecret"
    identity = {
        "name": "t",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    port = _free_port()
    ports = [f"-{part}.port={_free_port()}" for part in ("master", "filer", "volume")]
    # Not `weed mini`: that one also starts an administrator's server, and exits when that does not come up. Every
    # bucket takes seven volumes, which cost nothing until they are written.
    command = [
        *(_program("weed"), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=100000", "-filer", "-s3"),
        *(f"-s3.config={folder / 's3.json'}", f"-s3.port={port}", "-s3.port.iceberg=0", "-s3.port.lance=0", *ports),
    ]
    return S3Server("seaweedfs", f"http://127.0.0.1:{port}", key, secret, _popen(command, folder), folder)


def _start_ministack(folder: Path) -> S3Server:
    port = _free_port()
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3",
        "DOCKER_HOST": "unix:///nonexistent",
    }
    process = _popen([_program("ministack")], folder, environment)
    return S3Server("ministack", f"http://127.0.0.1:{port}", "test", "test", process, folder)


def _start_rclone(folder: Path) -> S3Server:
    port = _free_port()
    (folder / "data").mkdir()
    command = [
        *(_program("rclone"), "serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", "testkey,testsecret", str(folder / "data")),
    ]
    return S3Server("rclone", f"http://127.0.0.1:{port}", "testkey", "testsecret", _popen(command, folder), folder)


def _wait_until_ready(server: S3Server) -> None:
    """A bucket can be made, not only a port opened."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            server.make_bucket()
            return
        except (BotoCoreError, ClientError):
            time.sleep(0.2)
    raise RuntimeError(f"{server.name} did not start in {START_SECONDS:.0f} s:\n{server.log()}")


def _stop(server: S3Server) -> None:
    server.process.send_signal(signal.SIGCONT)
    server.process.terminate()
    try:
        server.process.wait(10)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    shutil.rmtree(server.folder, ignore_errors=True)
