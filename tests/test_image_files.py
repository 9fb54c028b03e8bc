"""Dockerfile and compose files: clean, valid, and in step with the pins. `make test-deploy` builds and runs them."""

import importlib.metadata
import importlib.resources
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_FILES = sorted(ROOT.glob("compose*.yaml"))
OURS = ("worker", "exporter", "bucket")


class _Loader(yaml.SafeLoader):
    """Knows compose's own tags, `!override` and `!reset`, which say how files merge and not what they hold."""


def _plain(loader, node):
    match node:
        case yaml.SequenceNode():
            return loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            return loader.construct_mapping(node, deep=True)
    return loader.construct_scalar(node)


_Loader.add_multi_constructor("!", lambda loader, _suffix, node: _plain(loader, node))


def _compose(path):
    return yaml.load(path.read_text(encoding="utf-8"), _Loader)


def _pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]): line for line in lines if "==" in line}


def test_hadolint_finds_nothing_in_the_dockerfile():
    answer = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout


def test_the_layer_of_torch_holds_all_that_torch_needs_and_nothing_else():
    (names,) = re.findall(r"grep -E '\^\(([^)]+)\)==' ", DOCKERFILE)
    layer = {canonicalize_name(name) for name in names.split("|")}
    needed, todo = set(), ["torch", "torchvision"]
    while todo:
        name = canonicalize_name(todo.pop())
        if name in needed or name.startswith(("nvidia-", "cuda-", "triton")):
            continue  # what a GPU build brings pins itself
        needed.add(name)
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    assert layer == needed - {"setuptools"}
    assert layer <= _pins().keys()


def test_the_label_says_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ARG VERSION={project['version']}\n" in DOCKERFILE


def test_the_build_sees_every_file_that_it_copies_and_no_other_folder():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    copied = {
        name for names in re.findall(r"^COPY ((?:[\w.-]+ )+)\S+$", DOCKERFILE, re.MULTILINE) for name in names.split()
    }
    assert copied | {"requirements-weights.txt"} == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_a_compose_file_follows_the_compose_specification(path):
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(_compose(path), json.loads(schema.read_text(encoding="utf-8")))


def test_compose_opens_ports_on_this_machine_only():
    ports = [
        port
        for path in COMPOSE_FILES
        for service in _compose(path)["services"].values()
        for port in service.get("ports", ())
    ]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_pins_every_image_that_it_does_not_build():
    images = [
        service["image"]
        for path in COMPOSE_FILES
        for service in _compose(path)["services"].values()
        if "image" in service
    ]
    for image in images:
        assert image.startswith("${IMAGE:-gankiln:") or re.search(r":\D*\d+[\w.-]+$", image), image


@pytest.mark.parametrize("name", OURS)
def test_compose_runs_our_containers_without_rights(name):
    service = _compose(ROOT / "compose.yaml")["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", ["worker", "exporter"])
def test_compose_settings_exist(name):
    from service.settings import unknown_variables

    assert unknown_variables(_compose(ROOT / "compose.yaml")["services"][name]["environment"]) == []
