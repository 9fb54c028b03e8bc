"""What only a CUDA device can show: every precision trains there, and a resumed run equals an unbroken one."""

import pytest
import torch

from jobs.errors import Interrupted
from jobs.report import Report
from jobs.training import state
from tests.tiny import loaded, run_tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

SHORT = {"training.device": "cuda", "training.images": 128, "evaluation.sanity": False, "evaluation.samples": 32}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_trains_and_reports(tmp_path, precision):
    run_tiny(loaded(**SHORT, **{"training.precision": precision}), tmp_path / "out", tmp_path / "cache")
    report = Report.load(tmp_path / "out" / "report.json")
    assert report.outcome == "finished" and report.effective["precision"] == precision
    assert "CPU" not in report.device


def test_stopped_and_resumed_equals_unbroken(tmp_path):
    job = loaded(**SHORT, **{"training.precision": "fp32", "training.deterministic": True})
    run_tiny(job, tmp_path / "whole", tmp_path / "cache")
    steps = iter(range(4))
    with pytest.raises(Interrupted):
        run_tiny(job, tmp_path / "broken", tmp_path / "cache", should_stop=lambda: next(steps, None) is None)
    run_tiny(job, tmp_path / "broken", tmp_path / "cache")
    one, other = (
        state.load_verified(state.complete(tmp_path / name / "checkpoints")[-1].path)["parts"]["G"]
        for name in ("whole", "broken")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("graphs", [False, True])
def test_compiled_and_recorded_networks_train_as_the_plain_ones(tmp_path, graphs):
    """After a few steps, with penalties between them: the same weights but for rounding, which Adam makes larger."""
    changed = {"recipe.path_length.interval": 2, "recipe.r1.interval": 2, "training.precision": "fp32"}
    for name, compiled in (("plain", {}), ("fast", {"training.compile": True, "training.cuda_graphs": graphs})):
        run_tiny(loaded(**SHORT, **changed, **compiled), tmp_path / name, tmp_path / "cache")
    plain, fast = (
        state.load_verified(state.complete(tmp_path / name / "checkpoints")[-1].path)["parts"]
        for name in ("plain", "fast")
    )
    for network in ("G", "D"):
        for name, tensor in plain[network].items():
            distance = (tensor - fast[network][name]).norm() / tensor.norm().clamp(min=1e-6)
            assert distance < 1e-2, f"{network}.{name}"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_train_as_one_does(tmp_path):
    fixed = {**SHORT, "training.precision": "fp32", "training.micro_batch": 8}
    for devices in (1, 2):
        run_tiny(loaded(**fixed, **{"training.devices": devices}), tmp_path / str(devices), tmp_path / "cache")
    one, two = (
        state.load_verified(state.complete(tmp_path / str(devices) / "checkpoints")[-1].path)["parts"]["G"]
        for devices in (1, 2)
    )
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=1e-5, rtol=1e-4)
