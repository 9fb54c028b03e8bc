import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluation import distances, prdc

REFERENCE = Path(__file__).parent / "reference_metrics"
VALUES = json.loads((REFERENCE / "reference_values.json").read_text())["values"]


def features(name: str) -> torch.Tensor:
    with np.load(REFERENCE / "features.npz") as file:
        return torch.from_numpy(file[name].astype(np.float64))


def measure(real: torch.Tensor, fake: torch.Tensor, k: int) -> dict[str, float]:
    outcome = prdc.neighbourhoods(real, fake, k, k)
    return {
        "precision": outcome.precise_M.mean().item(),
        "recall": outcome.recalled_N.mean().item(),
        "density": outcome.dense_M.mean().item(),
        "coverage": outcome.covered_N.mean().item(),
    }


@pytest.mark.parametrize("name", ["fake", "collapsed", "memorised"])
@pytest.mark.parametrize("k", [3, 5])
def test_agrees_with_prdc_exactly(name: str, k: int) -> None:
    for metric, value in measure(features("real"), features(name), k).items():
        assert value == pytest.approx(VALUES[f"real_vs_{name}/prdc_k{k}/{metric}"]["prdc float64 (<)"], abs=1e-12)


def by_definition(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    def radii(points: np.ndarray) -> np.ndarray:
        return np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)[:, k]

    between = np.linalg.norm(real[:, None] - fake, axis=2)
    return {
        "precision": (between <= radii(real)[:, None]).any(0).mean(),
        "recall": (between <= radii(fake)).any(1).mean(),
        "density": (between < radii(real)[:, None]).sum(0).mean() / k,
        "coverage": (between < radii(real)[:, None]).any(1).mean(),
    }


@given(
    real=st.integers(5, 40),
    fake=st.integers(5, 40),
    k=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    side=st.integers(2, 30),
)
def test_the_definition_on_a_lattice(real, fake, k, seed, side) -> None:
    """Points of a lattice have exact distances and many ties: boundaries, copies and self-exclusion all count."""
    rng = np.random.default_rng(seed)
    real_ND, fake_ND = (rng.integers(0, side, (n, 2)).astype(np.float64) for n in (real, fake))
    assert measure(torch.from_numpy(real_ND), torch.from_numpy(fake_ND), k) == pytest.approx(
        by_definition(real_ND, fake_ND, k), abs=1e-12
    )


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = features("real")[:300], features("fake")[:257]
    whole = measure(real, fake, 3)
    monkeypatch.setattr(distances, "ELEMENTS", 7 * 257)
    assert measure(real, fake, 3) == whole


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images have no 3-th nearest neighbour"):
        prdc.neighbourhoods(torch.randn(3, 2), torch.randn(9, 2), 3, 3)
