"""The benchmarks measure what they say: work counted by hand, every phase of every recipe, an end in time."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.benchmarks.__main__ import SHORT, run
from tests.benchmarks.bench_recipes import CYCLE, Work, measure
from tests.benchmarks.cases import SPECS, Case

CPU = torch.device("cpu")


def test_work_is_counted_as_by_hand():
    x, weight = torch.rand(2, 3, 8, 8), torch.rand(5, 3, 3, 3)
    with Work() as work:
        y = F.conv2d(x, weight, padding=1)
        y.permute(0, 2, 3, 1)
    assert work.flops == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)
    assert work.bytes == 4 * (x.numel() + weight.numel() + y.numel()), "a view moves nothing"


@pytest.mark.parametrize("recipe", SPECS)
def test_a_step_is_measured_by_phase(recipe):
    step = measure(Case(recipe, 32, 8, batch=4), CPU, 1e6)
    assert step is not None
    assert {"G", "D", "EMA"} <= step.phase_seconds.keys()
    assert ("R1" in step.phase_seconds) == (recipe in ("stylegan2", "stylex"))
    assert step.flops > 0 and step.bytes > 0 and step.limit_seconds > 0
    assert step.seconds == pytest.approx(sum(step.phase_seconds.values()))


def test_what_takes_too_long_is_left_out():
    assert CYCLE > 2 and measure(Case("translation", 32, 8, batch=4), CPU, 0.0) is None
    late = run("checkpoint", 0.0)
    assert (late.ended, late.rows) == ("out of time", [])


def test_every_benchmark_is_among_those_that_run():
    assert {f"bench_{name}" for name in SHORT} == {path.stem for path in Path("tests/benchmarks").glob("bench_*.py")}
