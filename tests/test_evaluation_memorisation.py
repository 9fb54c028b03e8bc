import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.evaluation import distances, memorisation

REFERENCE = Path(__file__).parent / "reference_metrics"
VALUES = json.loads((REFERENCE / "reference_values.json").read_text())["values"]


@pytest.mark.parametrize("name", ["fake", "collapsed", "memorised"])
def test_is_what_authenticity_leaves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(REFERENCE / "features.npz") as file:
        real, fake = (torch.from_numpy(file[key].astype(np.float64)) for key in ("real", name))
    authentic = VALUES[f"real_vs_{name}/authpct"]["dgm-eval float32"] / 100
    whole = memorisation.memorised(real, fake)
    assert whole.mean().item() == pytest.approx(1 - authentic, abs=1e-7)
    monkeypatch.setattr(distances, "ELEMENTS", 300_000)
    assert torch.equal(memorisation.memorised(real, fake), whole)


def test_copies_are_found_and_new_images_are_by_chance() -> None:
    rng = torch.Generator().manual_seed(2)
    real, new = torch.randn(2, 500, 6, generator=rng)
    assert memorisation.memorised(real, real[:50] + 1e-4).mean() == 1
    assert 0.3 < memorisation.memorised(real, new).mean() < 0.6
    assert memorisation.memorised(real, new + 50).mean() == 0
