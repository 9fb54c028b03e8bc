"""The doctor finds what is wrong, says what to do, and never stumbles itself."""

import json
import subprocess

import pytest
from typer.testing import CliRunner

from service import cli, doctor
from service.doctor import examine, shared_memory, skew
from service.settings import Settings
from service.store import MemoryStore

WORKS = {"version": "2.13", "cuda": None, "gpus": 0, "works": False, "archs": []}


def _examine(settings, facts=WORKS):
    return {check.name: check for check in examine(settings, ask_torch=lambda: facts)}


def test_a_good_machine(tmp_path):
    checks = _examine(Settings(store=str(tmp_path / "store"), home=tmp_path / "home"))
    assert {check.state for check in checks.values()} <= {"good", "warning"}
    assert "keeps its promises" in checks["store"].message
    assert set(checks) == {"versions", "store", "clock", "gpu", "torch", "disk", "shared memory", "weights"}


def test_a_store_that_breaks_its_promises(tmp_path, monkeypatch):
    class Careless(MemoryStore):
        def create(self, key, data):
            self.put(key, data)
            return True

    monkeypatch.setattr(doctor, "open_store", lambda url: Careless())
    check = _examine(Settings(store="memory", home=tmp_path))["store"]
    assert check.state == "bad" and "If-None-Match" in check.message and check.hint


def test_a_store_that_is_not_there(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert _examine(Settings(store=str(file), home=tmp_path))["store"].state == "bad"
    assert _examine(Settings(home=tmp_path))["store"].state == "warning"


@pytest.mark.parametrize(("seconds", "state"), [(0.2, "good"), (-4, "good"), (30, "warning"), (-1000, "bad")])
def test_clock_skew(seconds, state):
    assert skew(seconds).state == state
    assert ("ahead" in skew(seconds).message) == (seconds > 5)


def test_a_full_or_forbidden_disk(tmp_path):
    assert _examine(Settings(home=tmp_path, free_bytes=1 << 60))["disk"].state == "bad"
    assert _examine(Settings(home=tmp_path, spool_bytes=1 << 59))["disk"].state == "warning"
    file = tmp_path / "file"
    file.write_text("")
    assert _examine(Settings(home=file / "below"))["disk"].state == "bad"


def test_docker_s_default_of_shared_memory_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"total": 64 << 20, "free": 1}))
    check = shared_memory(tmp_path)
    assert check.state == "warning" and "--shm-size" in check.hint
    monkeypatch.undo()
    assert shared_memory(tmp_path / "none").state == "good"


@pytest.mark.parametrize("error", [OSError("no driver"), ValueError("no json"), subprocess.TimeoutExpired("torch", 1)])
def test_a_torch_that_cannot_be_used(tmp_path, error):
    def ask():
        raise error

    checks = {check.name: check for check in examine(Settings(home=tmp_path), ask_torch=ask)}
    assert checks["torch"].state == "bad"


def test_a_gpu_that_torch_cannot_compute_on(tmp_path, monkeypatch):
    class Library(doctor.NvidiaLibrary):
        def gpus(self):
            return [type("Gpu", (), {"name": "H200", "memory_total_bytes": 141 << 30})]

    monkeypatch.setattr(doctor, "NvidiaLibrary", Library)
    checks = _examine(Settings(home=tmp_path))
    assert checks["gpu"].state == "good" and "H200 141 GiB" in checks["gpu"].message
    assert checks["torch"].state == "bad"
    assert _examine(Settings(home=tmp_path), {**WORKS, "works": True, "gpus": 1})["torch"].state == "good"


def test_torch_is_asked_in_a_process_of_its_own():
    facts = doctor.torch_facts()
    assert facts["version"] and isinstance(facts["gpus"], int)


def test_the_command_exits_with_1_when_something_is_bad(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "torch_facts", lambda: WORKS)
    monkeypatch.setenv("GANKILN_HOME", str(tmp_path))
    result = CliRunner().invoke(cli.app, ["doctor", "--store", str(tmp_path / "store"), "--json"])
    assert result.exit_code == 0, result.output
    assert {check["name"] for check in json.loads(result.output)} >= {"store", "gpu"}
    monkeypatch.setenv("GANKILN_FREE_BYTES", "1000PB")
    result = CliRunner().invoke(cli.app, ["doctor", "--store", str(tmp_path / "store")])
    assert result.exit_code == 1
    assert "kept free" in result.output
