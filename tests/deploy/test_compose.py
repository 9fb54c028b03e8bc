"""`docker compose up --wait`, one spec into the bucket, and the report comes back; Prometheus has seen it all."""

import json
import urllib.request

import boto3
import pytest

from tests.deploy.tools import ROOT, free_port, spec, wait_for

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1800)]
FILES = ("compose", "--file", ROOT / "compose.yaml", "--file", ROOT / "compose.seaweedfs.yaml")
SERVICES = ("s3", "bucket", "worker", "exporter", "prometheus")


@pytest.fixture(scope="module")
def ports():
    return {"S3_PORT": str(free_port()), "PROMETHEUS_PORT": str(free_port()), "VARIANT": "cpu"}


@pytest.fixture(scope="module")
def up(docker, image, stand_ins, ports, tmp_path_factory):
    calm = tmp_path_factory.mktemp("compose") / "calm.yaml"
    calm.write_text('services: {worker: {environment: {OMP_NUM_THREADS: "1"}}}')  # others test on this machine
    compose = (*FILES, "--file", calm, "--project-name", "gankiln-test")
    docker(*compose, "up", "--detach", "--wait", "--no-build", *SERVICES, env=ports)
    yield lambda *arguments: docker(*compose, *arguments, env=ports)
    docker(*compose, "down", "--volumes", "--timeout", "30", env=ports)


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]], ids=len)
def test_docker_compose_accepts_the_files(docker, files):
    docker("compose", *(part for file in files for part in ("--file", ROOT / file)), "config", "--quiet")


def test_everything_is_healthy(up):
    states = [json.loads(line) for line in up("ps", "--all", "--format", "json").splitlines()]
    assert {state["Service"]: state["Health"] or state["ExitCode"] for state in states} == {
        **dict.fromkeys(("s3", "worker", "exporter", "prometheus"), "healthy"),
        "bucket": 0,
    }


def test_a_spec_put_into_the_bucket_comes_back_as_a_report(up, ports):
    bucket = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports['S3_PORT']}",
        region_name="us-east-1",
        aws_access_key_id="gankiln",
        aws_secret_access_key="only-on-this-machine",
    )
    bucket.put_object(Bucket="gankiln", Key="inbox/composed.yaml", Body=spec("composed").encode())

    def results():
        listed = bucket.list_objects_v2(Bucket="gankiln", Prefix="results/composed/").get("Contents", ())
        return {entry["Key"].rsplit("/", 1)[-1]: entry["Key"] for entry in listed}

    wait_for("result", lambda: "_SUCCESS" in results(), 600, every_seconds=2)
    report = bucket.get_object(Bucket="gankiln", Key=results()["report.json"])["Body"].read()
    assert json.loads(report)["images"] == 256
    assert "report.html" in results()


def test_prometheus_scrapes_both_and_knows_the_rules(up, ports):
    def ask(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)["data"]

    wait_for("two targets", lambda: [target["health"] for target in ask("targets")["activeTargets"]] == ["up"] * 2, 120)
    assert {group["name"] for group in ask("rules")["groups"]} == {"gankiln-queue", "gankiln-worker", "gankiln-store"}
