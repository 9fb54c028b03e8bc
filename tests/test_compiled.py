"""Compiled networks train as the plain ones do; penalties, which differentiate twice, work beside them."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs import recipes
from jobs.data import ImageBatch
from jobs.errors import SpecError
from jobs.losses import slopes
from jobs.training import state
from jobs.training.compiled import compile_in_place
from jobs.training.recipe import Known
from jobs.training.seeds import seed_step
from tests.tiny import loaded, run_tiny

STEPS = 4


def weights_after(job, cache: Path, backend: str | None) -> dict[str, torch.Tensor]:
    recipe = recipes.build(job, Known((5, 5)), "fp32", torch.device("cpu"))
    if backend is not None:
        compile_in_place(recipe.hot, cache, backend=backend)
    data, batch = job.recipe.data, job.training.batch
    channels = recipe.show(1, 0).shape[1]
    torch.manual_seed(0)
    image = torch.randint(0, 256, (batch, channels, data.resolution, data.resolution), dtype=torch.uint8)
    for images in range(0, STEPS * batch, batch):
        seed_step(0, images)
        recipe.step(ImageBatch(image, torch.arange(batch) % 2), images)
    networks = recipe.networks.items()
    return {f"{name}.{key}": value for name, network in networks for key, value in network.state_dict().items()}


def agree(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Adam's first steps have the sign of a gradient, however small it is: so few elements may differ by a step."""
    for name, value in one.items():
        distance = (value - other[name]).norm() / value.norm().clamp(min=1e-6)
        assert distance < 1e-3, name


JOB = {"recipe.r1": {"gamma": 1.0, "interval": 2}, "recipe.path_length": {"weight": 2.0, "interval": 2}}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, while it traces
@pytest.mark.parametrize("seen", [{}, {"recipe.augmentation": {"kind": "diffaugment"}}], ids=["plain", "augmented"])
def test_a_traced_step_is_the_plain_one_with_both_penalties(seen, tmp_path, monkeypatch):
    """The backend that traces and differentiates, and generates no code: quick. Penalties are traced as well."""
    job = loaded(**JOB, **seen).job
    torch.compiler.reset()
    plain = weights_after(job, tmp_path, None)
    monkeypatch.setattr(slopes, "slope", untraced)
    agree(plain, weights_after(job, tmp_path, "aot_eager"))


def untraced(_function, _at):
    raise AssertionError("a penalty was not compiled")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.skipif(shutil.which("g++") is None, reason="generates C++")
def test_a_compiled_run_is_the_plain_one_and_resumes_exactly(tmp_path):
    torch.compiler.reset()
    job = loaded(**JOB).job
    agree(weights_after(job, tmp_path, None), weights_after(job, tmp_path / "cache", "inductor"))
    job = loaded(**JOB, **{"training.compile": True})
    seen = []

    def stop_after(count):
        return lambda: len(seen) >= count or seen.append(1) is not None

    unbroken = run_tiny(job, tmp_path / "unbroken", tmp_path / "cache")
    with pytest.raises(Exception, match="stopped at"):
        run_tiny(job, tmp_path / "broken", tmp_path / "cache", should_stop=stop_after(2))
    torch.compiler.reset()
    broken = run_tiny(job, tmp_path / "broken", tmp_path / "cache")
    whole, other = (
        load_file(state.complete(page.parent / "checkpoints")[-1].path / "generator.safetensors")
        for page in (unbroken, broken)
    )
    assert whole.keys() == other.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, other[name]), name


def test_graphs_of_what_is_not_compiled_are_refused():
    with pytest.raises(SpecError, match=r"training\.cuda_graphs: only what is compiled can be recorded"):
        loaded(**{"training.cuda_graphs": True})


def test_a_recipe_that_cannot_be_compiled_says_so():
    with pytest.raises(SpecError, match=r"training\.compile: translation cannot be compiled"):
        loaded(Path("tests/specs/translation.yaml"), **{"training.compile": True})
