"""The image as users run it: as nobody in particular, with a read-only root and no capability."""

import gzip
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.deploy.tools import run, spec, wait_for

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1800)]
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--env", "OMP_NUM_THREADS=1")
BUDGET_BYTES = 700e6
APPLICATION_BYTES = 20e6
SOMEBODY = "4242:4242"


class _Counter:
    """A file that only counts."""

    def __init__(self):
        self.size_bytes = 0

    def write(self, data):
        self.size_bytes += len(data)
        return len(data)

    def flush(self):
        pass


def test_the_image_stays_within_its_budget(archive):
    """Compressed at gzip's quickest, which is more than a registry keeps."""
    counter = _Counter()
    with archive.open("rb") as file, gzip.GzipFile(fileobj=counter, mode="wb", compresslevel=1) as packed:
        while chunk := file.read(1 << 22):
            packed.write(chunk)
    assert counter.size_bytes < BUDGET_BYTES, f"{counter.size_bytes / 1e6:.0f} MB"


def test_an_upgrade_of_gankiln_alone_pulls_little(archive):
    with tarfile.open(archive) as file:
        (entry,) = json.load(file.extractfile("manifest.json"))
        sizes = [file.getmember(layer).size for layer in entry["Layers"]]
    large = max(range(len(sizes)), key=sizes.__getitem__)
    assert sum(sizes[large + 3 :]) < APPLICATION_BYTES, sizes  # after torch: packages, weights, then gankiln


def test_the_image_says_what_it_is(docker, image):
    (facts,) = json.loads(docker("inspect", image))
    config = facts["Config"]
    assert config["User"] == "10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["tini", "--", "gankiln"]
    assert config["Healthcheck"]["Test"] == ["CMD", "gankiln", "health"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not any("SECRET" in name.upper() for name in config["Env"])


def test_syft_lists_what_is_in_it(archive, tmp_path):
    listed = tmp_path / "sbom.json"
    syft = Path(sys.executable).with_name("syft")
    run(
        syft,
        "scan",
        f"docker-archive:{archive}",
        "--quiet",
        "--output",
        f"cyclonedx-json={listed}",
        env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"},
    )
    found = {part["name"] for part in json.loads(listed.read_text())["components"]}
    assert {"gankiln", "torch", "numpy", "boto3", "tini"} <= found


def test_doctor_is_content_as_any_user(docker, image):
    answer = docker(
        "run",
        "--rm",
        *HARDENED,
        "--user",
        SOMEBODY,
        "--shm-size",
        "1g",
        "--tmpfs",
        "/work:mode=1777",
        image,
        "doctor",
        "--json",
    )
    checks = {check["name"]: check["state"] for check in json.loads(answer)}
    assert {name for name, state in checks.items() if state == "bad"} == set()
    assert checks["weights"] == checks["store"] == checks["torch"] == "good"


def test_a_directory_that_may_not_be_written_is_said_clearly(docker, image, tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(
        AssertionError, match="this process runs as user 4242, who needs to read and write in the store"
    ):
        docker("run", "--rm", *HARDENED, "--user", SOMEBODY, "--volume", f"{tmp_path}:/work", image)


@pytest.fixture
def worker(docker, image, tmp_path):
    """A worker on a mounted directory, by the command of the README: its folder, and the container's name."""
    work = tmp_path / "work"
    work.mkdir()
    os.chown(work, 4242, 4242)
    name = f"worker-{tmp_path.name.replace('_', '-')}"
    docker(
        "run",
        "--detach",
        "--name",
        name,
        *HARDENED,
        "--user",
        SOMEBODY,
        "--volume",
        f"{work}:/work",
        "--health-interval",
        "2s",
        image,
    )
    wait_for("inbox/", (work / "inbox").is_dir, 120)
    yield work, name
    docker("rm", "--force", name)


def test_a_spec_dropped_into_a_mounted_directory_comes_back_as_a_report(docker, worker):
    work, name = worker
    (work / "inbox" / "job.yaml").write_text(spec("mounted"))
    wait_for("result", lambda: list(work.glob("results/mounted/*/_SUCCESS")), 600)
    (report,) = work.glob("results/mounted/*/report.json")
    assert json.loads(report.read_text())["images"] == 256
    assert docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() == "healthy"


def test_sigterm_drains_with_a_checkpoint(docker, worker):
    """Ended by 0, and the job waits with its place and its last checkpoint for another worker."""
    work, name = worker
    (work / "inbox" / "long.yaml").write_text(spec("long", images=1_000_000))
    wait_for(
        "training", lambda: "training" in docker("exec", name, "gankiln", "status", "--json"), 300, every_seconds=2
    )
    wait_for(
        "a step",
        lambda: '"images": 0,' not in docker("exec", name, "gankiln", "status", "--json"),
        300,
        every_seconds=2,
    )
    docker("stop", "--time", "60", name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    said = [json.loads(line) for line in docker("logs", name, stderr=subprocess.STDOUT).splitlines()]
    (ended,) = (line for line in said if line["action"] == "attempt_ended")
    assert (ended["code"], ended["status"], ended["images"] > 0) == ("drain", "queued", True)
    assert list(work.glob("jobs/*/attempts/*/resume/*/MANIFEST.json"))
    assert list(work.glob("ready/*/*"))
