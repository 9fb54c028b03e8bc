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
