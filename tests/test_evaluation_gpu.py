"""What a card measures is what a processor measures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.evaluation.evaluator import Evaluator
from jobs.spec.evaluation import Evaluation

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_the_table_is_the_same_on_both(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    real = rng.randint(0, 256, (300, 3, 8, 8), dtype=np.uint8).repeat(4, 2).repeat(4, 3)
    section = Evaluation(samples=100, kid_subsets=10)

    def sample(count: int, seed: int) -> torch.Tensor:
        image = np.random.RandomState(seed).uniform(-1, 0.9, (count, 3, 8, 8)).repeat(4, 2).repeat(4, 3)
        return torch.from_numpy(image.astype(np.float32))

    torch.set_float32_matmul_precision("high")  # as training may leave it
    try:
        tables = [
            Evaluator(section, real, digest="x", cache_dir=tmp_path / name, device=torch.device(name)).measure(
                sample, 0
            )
            for name in ("cpu", "cuda")
        ]
    finally:
        torch.set_float32_matmul_precision("highest")
    for on_cpu, on_card in zip(*tables, strict=True):
        assert (on_cpu.metric, on_cpu.features) == (on_card.metric, on_card.features)
        assert on_card.value == pytest.approx(on_cpu.value, rel=2e-3, abs=0.02 if on_cpu.value <= 1 else 0)
