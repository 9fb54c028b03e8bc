"""Every recipe on a device that is not the host's, from spec to report, stopped and resumed, without a GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from jobs import recipes, run
from jobs.data import ImageBatch
from jobs.errors import Interrupted
from jobs.report import Report
from jobs.spec import Loaded
from jobs.training.recipe import Known
from tests.pretend_device import AWAY, Pretended, pretended
from tests.tiny import EVERY, loaded

STEPS, STOP_AFTER = 4, 2
SHORT = {"evaluation.sanity": False, "evaluation.samples": 32, "training.precision": "bf16"}
OTHERWISE = {"sketch": {"training.precision": "fp32", "training.images": 192}}
"""It must have grown by the end."""


def short(path: Path) -> Loaded:
    images = STEPS * loaded(path).job.training.batch
    return loaded(path, **SHORT | {"training.images": images} | OTHERWISE.get(path.stem, {}))


def run_in(job, out: Path, cache: Path, build=recipes.build, should_stop: Callable[[], bool] = lambda: False) -> None:
    around = run.Surroundings(out, cache, run.Roots(Path("tests/specs")), should_stop=should_stop)
    run.run(job, around, build)


def watched(device: Pretended) -> Callable[..., Any]:
    """Builds recipes whose steps may read nothing, copy their batch only, and say everything on the device."""

    def build(*given: Any) -> Any:
        recipe = recipes.build(*given)
        step = recipe.step

        def careful(batch: Any, images: int) -> dict[str, Tensor]:
            read, copied = device.read.copy(), len(device.copied)
            scalars = step(batch, images)
            assert device.read == read, f"a step made the host wait: {device.read - read}"
            theirs = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)}
            others = [tuple(x.shape) for x in device.copied[copied:] if x.untyped_storage().data_ptr() not in theirs]
            assert not others or not images, f"a step copied {others} to the device"
            assert {name: value.device for name, value in scalars.items() if value.device != AWAY} == {}
            return scalars

        recipe.step = careful
        return recipe

    return build


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")  # a pretended device's tensors take it
@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_a_job_runs_on_a_device_and_its_steps_never_wait(path, tmp_path, monkeypatch):
    job, steps = short(path), iter(range(STOP_AFTER))
    monkeypatch.setattr(run, "choose_device", lambda _asked: AWAY)
    with pretended() as device:
        with pytest.raises(Interrupted):
            run_in(job, tmp_path / "out", tmp_path / "cache", watched(device), lambda: next(steps, None) is None)
        run_in(job, tmp_path / "out", tmp_path / "cache", watched(device))
    assert Report.load(tmp_path / "out" / "report.json").outcome == "finished"


@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
def test_a_step_with_augmentation_never_waits(kind):
    job = loaded(**{"recipe.augmentation": {"kind": kind}}).job
    image = torch.zeros(job.training.batch, 3, 32, 32, dtype=torch.uint8)
    with pretended() as device:
        recipe = watched(device)(job, Known(), "fp32", AWAY)
        for images in (0, job.training.batch):
            recipe.step(ImageBatch(image, None), images)
