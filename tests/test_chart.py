"""The chart: rendered by Helm over many values, validated against Kubernetes' schemas, and held to its promises."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

from service.settings import PREFIX, Settings, unknown_variables
from tests import chart_readme

CHART = Path(__file__).parents[1] / "helm"
VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
HELM = Path(sys.executable).with_name("helm")
OLDEST, NEWEST = "1.27", "1.37"
"""The oldest Kubernetes that Chart.yaml allows, and the newest whose schemas are here."""
CUSTOM = {"ScaledJob", "JobSet", "PodMonitor", "PrometheusRule"}
EVERYTHING = {
    "imagePullSecrets": [{"name": "registry"}],
    "global": {"imageRegistry": "mirror.example.com:5000"},
    "image": {"digest": "sha256:" + "0" * 64},
    "store": {
        "url": "s3://gans/queue",
        "endpoint": "https://s3.example.com",
        "existingSecret": "store-keys",
        "caBundle": {"configMap": "ca"},
    },
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/gankiln"}},
    "worker": {
        "replicas": 3,
        "settings": {"ttl_seconds": 120, "cache_bytes": 200000000000, "preemption": "aws", "backoff_seconds": 0.5},
        "gpu": {"count": 2, "resourceName": "nvidia.com/mig-1g.10gb"},
        "runtimeClassName": "nvidia",
        "priorityClassName": "research",
        "nodeSelector": {"gpu": "h200"},
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "podAnnotations": {"note": "true"},
        "podLabels": {"team": "research"},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "1"]}}},
        "extraEnv": [{"name": "OMP_NUM_THREADS", "value": "4"}],
        "extraEnvFrom": [{"configMapRef": {"name": "proxy"}}],
        "extraVolumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "extraVolumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
        "initContainers": [{"name": "wait", "image": "busybox:1.36"}],
        "extraContainers": [{"name": "side", "image": "busybox:1.36"}],
        "cacheVolume": {
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "200Gi"}}}
                }
            }
        },
    },
    "kueue": {"queueName": "research", "priorityClass": "low"},
    "exporter": {
        "tolerations": [{"operator": "Exists"}],
        "podLabels": {"team": "research"},
        "podAnnotations": {"note": "true"},
        "extraEnv": [{"name": "A", "value": "b"}],
        "priorityClassName": "research",
    },
    "podMonitor": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}],
    },
    "prometheusRule": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "alertLabels": {"team": "research"},
        "disabled": ["GankilnXidError"],
        "runbookUrl": "https://wiki.example.com/gankiln",
    },
    "dashboards": {"enabled": True, "annotations": {"grafana_folder": "gankiln"}},
    "networkPolicy": {
        "enabled": True,
        "storeTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "cloudMetadata": True,
        "extraEgress": [{"ports": [{"port": 8080}]}],
    },
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text",
    ],
}
MATRIX = {
    "defaults": {},
    "cpu": {"worker": {"gpu": {"count": 0}}},
    "scaledjob": {"worker": {"mode": "scaledjob"}},
    "jobset": {"worker": {"mode": "jobset", "replicas": 4}, "kueue": {"queueName": "research"}},
    "only-the-exporter": {"worker": {"mode": "none"}},
    "only-workers": {"exporter": {"enabled": False}},
    "a-volume": {"store": {"url": "/work", "volume": {"persistentVolumeClaim": {"claimName": "queue"}}}},
    "ca-secret": {"store": {"caBundle": {"secret": "ca", "key": "root.pem"}}},
    "openshift": {"podSecurityContext": {"runAsUser": None, "fsGroup": None}},
    "own-account": {"serviceAccount": {"create": False, "name": "mine"}},
    "no-budgets": {
        "worker": {"podDisruptionBudget": {"enabled": False}},
        "exporter": {"podDisruptionBudget": {"enabled": False}},
    },
    "everything": EVERYTHING,
    "everything-scaledjob": EVERYTHING | {"worker": EVERYTHING["worker"] | {"mode": "scaledjob"}},
    "everything-jobset": EVERYTHING | {"worker": EVERYTHING["worker"] | {"mode": "jobset"}},
}


def helm(*arguments, values=None):
    return subprocess.run(
        [HELM, *arguments, *(["--values", "-"] if values is not None else [])],
        input=yaml.safe_dump(values) if values is not None else None,
        capture_output=True,
        text=True,
    )


@cache
def _rendered(case, release="gankiln"):
    answer = helm("template", release, CHART, "--namespace", "gans", values=MATRIX[case])
    assert answer.returncode == 0, answer.stderr
    return [document for document in yaml.safe_load_all(answer.stdout) if document]


def objects(case, kind):
    return [document for document in _rendered(case) if document["kind"] == kind]


def _pod_templates(document):
    """Every pod that `document` starts, as a pod's metadata and spec."""
    match document["kind"]:
        case "Pod":
            yield document
        case "Deployment":
            yield document["spec"]["template"]
        case "ScaledJob":
            yield document["spec"]["jobTargetRef"]["template"]
        case "JobSet":
            yield from (job["template"]["spec"]["template"] for job in document["spec"]["replicatedJobs"])


def pods(case):
    return [pod for document in _rendered(case) for pod in _pod_templates(document)]


def worker_pod(case):
    (pod,) = (pod for pod in pods(case) if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "worker")
    return pod


def worker_environment(case):
    (worker,) = (container for container in worker_pod(case)["spec"]["containers"] if container["name"] == "worker")
    return {entry["name"]: entry.get("value") for entry in worker["env"]}


def _job_specs(document):
    """The Job specs inside a custom resource, as Jobs, so that Kubernetes' own schema can judge them."""
    match document["kind"]:
        case "ScaledJob":
            specs = [document["spec"]["jobTargetRef"]]
        case "JobSet":
            specs = [job["template"]["spec"] for job in document["spec"]["replicatedJobs"]]
        case _:
            specs = []
    return [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec} for spec in specs]


@pytest.mark.parametrize("case", MATRIX)
def test_helm_lints_strictly(case):
    answer = helm("lint", "--strict", CHART, values=MATRIX[case])
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("case", "version"), [*((case, NEWEST) for case in MATRIX), *((case, OLDEST) for case in MATRIX if "every" in case)]
)
def test_manifests_are_valid_for_kubernetes(case, version):
    for document in _rendered(case):
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)
        for job in _job_specs(document):
            kubernetes_validate.validate(job, version, strict=True)


@pytest.mark.parametrize("case", MATRIX)
def test_names_are_unique(case):
    named = [(document["kind"], document["metadata"]["name"]) for document in _rendered(case)]
    assert len(named) == len(set(named))


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        ("defaults", {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "Pod", "ConfigMap"}),
        ("scaledjob", {"ScaledJob"}),
        ("jobset", {"JobSet"}),
        ("everything", {"PodMonitor", "PrometheusRule", "NetworkPolicy"}),
    ],
)
def test_kinds(case, kinds):
    assert kinds <= {document["kind"] for document in _rendered(case)}


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 1},
        {"worker": {"replicas": -1}},
        {"worker": {"gpu": {"cuont": 1}}},
        {"worker": {"mode": "daemonset"}},
        {"worker": {"settings": {"ttl_secs": 1}}},
        {"worker": {"settings": {"store": "s3://elsewhere"}}},
        {"worker": {"terminationGracePeriodSeconds": 5}},
        {"worker": {"sharedMemory": "eight"}},
        {"worker": {"mode": "scaledjob"}, "exporter": {"enabled": False}},
        {"image": {"tag": "latest"}},
        {"image": {"digest": "0123"}},
        {"store": {"url": "http://minio:9000"}},
        {"store": {"url": "/data"}},
        {"prometheusRule": {"disabled": "GankilnXidError"}},
        {"networkPolicy": {"storePorts": [0]}},
    ],
    ids=json.dumps,
)
def test_wrong_values_are_refused(values):
    assert helm("template", "gankiln", CHART, values=values).returncode != 0


def test_an_older_kubernetes_is_refused():
    assert "kubeVersion" in helm("template", "gankiln", CHART, "--kube-version", "1.26.0").stderr


def test_the_schema_is_closed_and_knows_every_value():
    def walk(schema, path):
        if "properties" not in schema:
            return
        assert schema.get("additionalProperties") is False or path == ("global",), path
        for name, inner in schema["properties"].items():
            yield (*path, name)
            yield from walk(inner, (*path, name))

    known = {".".join(path) for path in walk(SCHEMA, ())}
    documented = {value.path for value in chart_readme.documented(VALUES)}
    settings = {path for path in known if path.startswith("worker.settings.")}
    sections = {path.rsplit(".", 1)[0] for path in known if "." in path} - {"worker.settings"}
    assert documented == known - settings - sections


def test_the_settings_of_the_schema_are_those_of_the_service():
    managed = {"store", "home", "worker", "node", "metrics_host", "metrics_port"}
    assert (
        SCHEMA["properties"]["worker"]["properties"]["settings"]["properties"].keys()
        == Settings.model_fields.keys() - managed
    )


def test_the_readme_is_made_from_the_values():
    assert (CHART / "README.md").read_text(encoding="utf-8") == chart_readme.render(VALUES), "make reference"


def test_a_value_without_a_comment_is_an_error():
    with pytest.raises(ValueError, match=r"a\.b has no comment"):
        chart_readme.documented("a:\n  b: 1\n")


@pytest.mark.parametrize("case", MATRIX)
def test_pods_pass_the_restricted_pod_security_standard(case):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, for our own containers."""
    ours = {"worker", "exporter", "doctor", "job"}
    for pod in pods(case):
        spec, user = pod["spec"], pod["spec"]["securityContext"]
        assert user["runAsNonRoot"] is True
        assert user["seccompProfile"]["type"] == "RuntimeDefault"
        assert user.get("runAsUser") != 0
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        kinds = {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}}
        assert kinds <= {"configMap", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            if container["name"] in ours:
                rights = container["securityContext"]
                assert rights["allowPrivilegeEscalation"] is False
                assert rights["capabilities"] == {"drop": ["ALL"]}
                assert rights["readOnlyRootFilesystem"] is True
                assert "hostPort" not in json.dumps(container.get("ports"))


@pytest.mark.parametrize("case", MATRIX)
def test_pods_have_no_token_of_the_cluster_and_no_links(case):
    for pod in pods(case):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False  # GANKILN_PORT of a service named gankiln is no setting


@pytest.mark.parametrize("case", MATRIX)
def test_every_setting_of_a_pod_exists_and_loads(case, monkeypatch):
    for pod in pods(case):
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]:
            environment = {entry["name"]: entry.get("value", "from-a-field") for entry in container.get("env", ())}
            assert unknown_variables(environment) == []
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    if name.startswith(PREFIX):
                        patch.setenv(name, value)
                Settings()


@pytest.mark.parametrize("case", MATRIX)
def test_what_selects_pods_finds_some(case):
    labels = [pod["metadata"]["labels"].items() for pod in pods(case)]
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
        for document in objects(case, kind):
            spec = document["spec"]
            selector = spec.get("podSelector") or spec.get("selector")
            wanted = selector.get("matchLabels", selector).items()
            assert any(wanted <= found for found in labels), (kind, document["metadata"]["name"])


def test_the_monitor_names_a_port_of_workers_and_exporter():
    (monitor,) = objects("everything", "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for pod in pods("everything"):
        ports = [port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", ())]
        assert ports == ([endpoint["port"]] if "helm.sh/hook" not in pod["metadata"].get("annotations", {}) else [])


def test_whole_numbers_stay_whole_and_fractions_stay():
    environment = worker_environment("everything")
    assert environment["GANKILN_CACHE_BYTES"] == "200000000000"
    assert environment["GANKILN_TTL_SECONDS"] == "120"
    assert environment["GANKILN_BACKOFF_SECONDS"] == "0.5"


@pytest.mark.parametrize("case", ["defaults", "scaledjob", "jobset"])
def test_a_worker_drains_before_it_is_killed(case):
    assert (
        int(worker_environment(case)["GANKILN_DRAIN_SECONDS"])
        < worker_pod(case)["spec"]["terminationGracePeriodSeconds"]
    )


def test_keys_come_from_a_secret_and_never_stand_in_a_manifest():
    answer = helm("template", "gankiln", CHART, values=EVERYTHING)
    assert "AWS_SECRET_ACCESS_KEY" not in answer.stdout
    assert {"secretRef": {"name": "store-keys"}} in worker_pod("everything")["spec"]["containers"][0]["envFrom"]


def test_a_gpu_is_requested_and_limited_and_zero_asks_for_none():
    resources = worker_pod("everything")["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/mig-1g.10gb"] == resources["requests"]["nvidia.com/mig-1g.10gb"] == 2
    assert "nvidia" not in json.dumps(worker_pod("cpu")["spec"]["containers"][0]["resources"])


def test_the_digest_goes_before_the_tag_and_the_mirror_before_the_registry():
    image = worker_pod("everything")["spec"]["containers"][0]["image"]
    assert image == "mirror.example.com:5000/gankiln@sha256:" + "0" * 64


def test_an_upgrade_never_kills_the_jobs_of_a_scaled_worker():
    (scaled,) = objects("scaledjob", "ScaledJob")
    assert scaled["spec"]["rollout"]["strategy"] == "gradual"
    assert scaled["spec"]["jobTargetRef"]["backoffLimit"] == 0
    (trigger,) = scaled["spec"]["triggers"]
    (service,) = objects("scaledjob", "Service")
    host = f"{service['metadata']['name']}.gans.svc:{service['spec']['ports'][0]['port']}"
    assert trigger["metadata"]["url"] == f"http://{host}/queue"


def test_an_idle_scaled_worker_outlives_the_time_to_live_of_a_lost_one():
    (argument,) = re.findall(r"--exit-when-idle=(\d+)s", json.dumps(worker_pod("scaledjob")["spec"]))
    assert float(argument) > Settings().queue_settings(polls_are_free=False).ttl_seconds + 30


def test_kueue_is_asked_by_labels():
    for case in ("everything", "everything-scaledjob", "everything-jobset"):
        (workers,) = (
            document
            for document in _rendered(case)
            if document["kind"] in {"ScaledJob", "JobSet"}
            or (document["kind"] == "Deployment" and document["metadata"]["name"].endswith("-worker"))
        )
        assert workers["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
        assert workers["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "low"


def _dropped(written, read, path="jobset"):
    """Where `read` lacks what was written: keys that the schema does not know."""
    match written:
        case dict():
            gone = [
                f"{path}.{key}" for key, value in written.items() if key not in read and value not in (None, {}, [])
            ]
            kept = written.keys() & read.keys()
            return gone + [name for key in kept for name in _dropped(written[key], read[key], f"{path}.{key}")]
        case list():
            return [name for old, new in zip(written, read, strict=True) for name in _dropped(old, new, path)]
    return []


@pytest.mark.parametrize("case", ["jobset", "everything-jobset"])
def test_a_jobset_follows_its_schema(case):
    (document,) = objects(case, "JobSet")
    assert _dropped(document, JobsetV1alpha2JobSet.from_dict(document).to_dict()) == []


def test_rules_are_those_of_the_file_with_labels_and_runbooks():
    (rule,) = objects("everything", "PrometheusRule")
    rendered = {alert["alert"]: alert for group in rule["spec"]["groups"] for alert in group["rules"]}
    written = yaml.safe_load((CHART / "rules" / "gankiln.yaml").read_text(encoding="utf-8"))
    expected = {alert["alert"]: alert for group in written["groups"] for alert in group["rules"]}
    assert rendered.keys() == expected.keys() - {"GankilnXidError"}
    for name, alert in rendered.items():
        assert alert["expr"] == expected[name]["expr"]
        assert alert["labels"] == expected[name]["labels"] | {"team": "research"}
        assert alert["annotations"]["runbook_url"] == f"https://wiki.example.com/gankiln#{name.lower()}"


def test_every_dashboard_becomes_a_config_map_of_the_same_bytes():
    files = {f"gankiln-{path.name}": path.read_text(encoding="utf-8") for path in (CHART / "dashboards").glob("*.json")}
    maps = [
        document
        for document in objects("everything", "ConfigMap")
        if document["metadata"].get("labels", {}).get("grafana_dashboard")
    ]
    assert {name: json.loads(text) for document in maps for name, text in document["data"].items()} == {
        name: json.loads(text) for name, text in files.items()
    }
    assert files


def test_a_long_name_of_a_release_stays_within_kubernetes_limits():
    answer = helm("template", "r" * 53, CHART, values=EVERYTHING)
    for document in yaml.safe_load_all(answer.stdout):
        assert len(document["metadata"]["name"]) <= 63
        assert all(len(value) <= 63 for value in document["metadata"].get("labels", {}).values())


@pytest.fixture(scope="module")
def chart_with_notes(tmp_path_factory):
    """The chart with one template more, that shows NOTES.txt: Helm renders it only for a cluster."""
    chart = shutil.copytree(CHART, tmp_path_factory.mktemp("chart") / "gankiln")
    shutil.copy(CHART / "templates" / "NOTES.txt", chart / "files")
    (chart / "templates" / "notes.yaml").write_text('notes: {{ tpl (.Files.Get "files/NOTES.txt") . | quote }}\n')
    return chart


@pytest.mark.parametrize("case", MATRIX)
def test_notes_name_three_commands(case, chart_with_notes):
    arguments = ("template", "gankiln", chart_with_notes, "--namespace", "gans", "--show-only", "templates/notes.yaml")
    answer = helm(*arguments, values=MATRIX[case])
    assert answer.returncode == 0, answer.stderr
    notes = yaml.safe_load(answer.stdout)["notes"]
    for beginning in ("Drop a spec:", "Watch:", "Fetch the results:"):
        assert notes.count(beginning) == 1
    names = {f"deploy/{document['metadata']['name']}" for document in objects(case, "Deployment")}
    assert set(re.findall(r"deploy/\S+", notes)) <= names | {"deploy/gankiln-exporter"}


def test_the_smoke_job_of_helm_test_is_a_good_spec():
    from jobs.spec import load

    (spec,) = (
        document["data"]["smoke.yaml"]
        for document in objects("defaults", "ConfigMap")
        if "smoke.yaml" in document["data"]
    )
    assert load(spec.encode(), "smoke.yaml").job.training.images <= 1000
