"""The house keeps its rules: import contracts, documented settings and commands, short files, examples that run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from jobs.errors import GankilnError
from jobs.spec import LoadedStudy, load_any_file, load_file
from service.cli import app
from service.settings import Settings
from tests.tiny import EVERY

README = Path("README.md").read_text()
REFERENCE = Path("service/REFERENCE.md").read_text()
TRACKED = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
SOURCES = [Path(name) for name in TRACKED if name.endswith(".py") and name.startswith(("jobs/", "service/"))]


def commands() -> list[str]:
    """Every command by its full name, `data make` included."""
    names = []
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        names += [f"{name} {child}" for child in inner] if inner else [name]
    return names


def test_import_contracts_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(lint)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", commands())
def test_every_command_is_documented(name: str):
    assert f"`gankiln {name}" in README or f"`gankiln {name}" in REFERENCE


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str):
    assert f"`GANKILN_{name.upper()}`" in REFERENCE


def test_every_exit_code_is_documented():
    for error in GankilnError.__subclasses__():
        assert re.search(rf"\b{error.exit_code}\b", README), error


@pytest.mark.parametrize("path", sorted(Path("jobs/examples").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_opens_with_its_command_and_loads(path: Path):
    head = path.read_text().split("name:")[0]
    assert "gankiln run" in head or "gankiln submit" in head
    loaded = load_any_file(path)
    assert loaded.name if isinstance(loaded, LoadedStudy) else loaded.job.name


def test_every_recipe_has_a_tiny_spec():
    recipes = {path.stem for path in Path("jobs/recipes").glob("*.py")} - {"__init__"}
    assert {load_file(path).job.recipe.kind for path in EVERY} == recipes


def test_the_folders_are_the_ones_that_the_readme_maps():
    for folder in ("jobs", "service", "tests"):
        for path in sorted(Path(folder).iterdir()):
            if path.is_dir() and any(name.startswith(f"{path}/") for name in TRACKED):
                assert path.name in README, path


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_stay_short_enough_to_read(path: Path):
    assert len(path.read_text().splitlines()) <= 500


def test_specs_in_the_readme_are_valid(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", README, flags=re.S)
    specs = [block for block in blocks if "recipe:" in block and "training:" in block]
    assert specs
    for block in specs:
        path = tmp_path / "spec.yaml"
        path.write_text(block)
        assert load_file(path).job.name == yaml.safe_load(block)["name"]


def test_nothing_points_at_one_machine_or_at_a_package_index():
    """The words are put together here, so that this file is held to it as well."""
    option = "-".join(("index", "url"))
    key = "".join(("reg", "istry"))
    homes = "|".join(("root", "home", "work", "farm"))
    package_index = rf"{option}|{key}\s*=\s*[\"']?http"
    machine = rf"(?:^|[\s\"'(=])/(?:{homes})/[a-z.]"
    pattern = re.compile(f"{package_index}|{machine}", re.M)
    for name in TRACKED:
        path = Path(name)
        if path.suffix in {".py", ".toml", ".md", ".txt", ".yaml", ".html", ""} and path.is_file():
            text = path.read_text(errors="ignore")
            found = pattern.search(text)
            assert not found or name.startswith(("compose", "Dockerfile", "helm/")), name
