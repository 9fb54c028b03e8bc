"""The worker of the chart, as Helm renders it, run as a pod by podman."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.tools import ROOT, missing, program, run, spec, wait_for

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(2400)]
CONTAINER = "gankiln-worker-pod-0-worker"
CONTAINERS = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    """podman with a storage of its own, for a machine without systemd."""
    binary = program("podman")
    if os.geteuid() != 0:
        missing("no root for podman")
    folder = tmp_path_factory.mktemp("podman")
    (folder / "containers.conf").write_text(CONTAINERS)
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")} | {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    yield lambda *arguments, **options: run(binary, *arguments, env=environment, **options)
    subprocess.run([binary, "system", "reset", "--force"], env=environment, capture_output=True)


@pytest.fixture(scope="module")
def manifest(image, tmp_path_factory) -> tuple[str, Path]:
    """The rendered worker, on a directory of this machine; and that directory."""
    queue = tmp_path_factory.mktemp("queue")
    os.chown(queue, 10001, 0)
    values = {
        "image": {"repository": image.partition(":")[0], "tag": image.partition(":")[2]},
        "store": {"url": "/work", "volume": {"hostPath": {"path": str(queue)}}},
        "worker": {"gpu": {"count": 0}, "extraEnv": [{"name": "OMP_NUM_THREADS", "value": "1"}]},
    }
    helm = (Path(sys.executable).with_name("helm"), "template", "gankiln", ROOT / "helm", "--values", "-")
    rendered = run(*helm, "--show-only", "templates/worker-deployment.yaml", input=yaml.safe_dump(values))
    deployment = next(entry for entry in yaml.safe_load_all(rendered) if entry["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (node,) = (entry for entry in container["env"] if entry["name"] == "GANKILN_NODE")
    assert node.pop("valueFrom") == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    node["value"] = "this-machine"  # podman knows no nodes
    return yaml.safe_dump(deployment), queue


def test_the_rendered_worker_runs_a_job_and_drains(podman, archive, manifest):
    text, queue = manifest
    podman("load", "--quiet", "--input", archive)
    podman("play", "kube", "-", input=text)
    facts = podman(
        "inspect", CONTAINER, "--format", "{{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.EffectiveCaps}}"
    )
    assert facts.split() == ["true", "10001:0", "[]"]
    wait_for("inbox/", (queue / "inbox").is_dir, 120)
    assert podman("exec", CONTAINER, "gankiln", "health").strip() == "ok"
    (queue / "inbox" / "job.yaml").write_text(spec("in-a-pod"))
    wait_for("result", lambda: list(queue.glob("results/in-a-pod/*/_SUCCESS")), 600)
    podman("stop", "--time", "60", CONTAINER)
    assert podman("inspect", CONTAINER, "--format", "{{.State.ExitCode}}").strip() == "0"
    assert "exit_drained" in podman("logs", CONTAINER, stderr=subprocess.STDOUT)
