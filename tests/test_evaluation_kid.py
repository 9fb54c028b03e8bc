import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluation import kid

REFERENCE = Path(__file__).parent / "reference_metrics"
VALUES = json.loads((REFERENCE / "reference_values.json").read_text())["values"]


def features(name: str) -> torch.Tensor:
    with np.load(REFERENCE / "features.npz") as file:
        return torch.from_numpy(file[name].astype(np.float64))


@pytest.mark.parametrize(
    ("name", "images", "subsets"),
    [("fake", 1000, 100), ("fake", 2000, 1), ("collapsed", 500, 50), ("collapsed", 2000, 1), ("memorised", 500, 50)],
)
def test_agrees_with_torch_fidelity_subset_by_subset(name: str, images: int, subsets: int) -> None:
    key, source = f"real_vs_{name}/kid_subset{images}x{subsets}", "torch-fidelity rng_seed=2020 float64"
    values = kid.kernel_distances(features("real"), features(name), subsets, images, seed=2020)
    assert values.mean() == pytest.approx(VALUES[f"{key}_mean"][source], abs=1e-8)
    assert values.std() == pytest.approx(VALUES[f"{key}_std"][source], abs=1e-8)


def test_unbiased_at_any_count() -> None:
    """Two samples of one distribution: the mean over many small subsets is 0 within its standard error."""
    rng = torch.Generator().manual_seed(3)
    pool = torch.randn(2, 20_000, 4, generator=rng)
    values = torch.stack([kid.squared_mmd(*pair) for pair in zip(*(half.split(20) for half in pool), strict=True)])
    assert abs(values.mean().item()) < 3 * (values.std() / len(values) ** 0.5).item()


def test_by_hand() -> None:
    real, fake = torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0], [1.0]])
    within_real, within_fake = 1.0, (2 + 1) ** 3
    between = np.mean([(2 + 1) ** 3, (1 + 1) ** 3, 1, 1])
    assert kid.squared_mmd(real, fake).item() == pytest.approx(within_real + within_fake - 2 * between)


def test_the_seed_chooses_the_subsets() -> None:
    first, again, other = (kid.kernel_distances(features("real"), features("fake"), 3, 100, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@given(n=st.integers(12, 40), m=st.integers(12, 40), size=st.integers(2, 12), seed=st.integers(0, 1000))
def test_one_pass_over_all_pairs_is_every_subset_by_itself(n, m, size, seed):
    """Whichever is cheaper is taken; many subsets of few images go through the one pass."""
    source = np.random.RandomState(seed)
    real, fake = (torch.from_numpy(source.randn(count, 5)) for count in (n, m))
    subsets = max(n, m) ** 2 // size**2 + 1
    together = kid.kernel_distances(real, fake, subsets, size, seed)
    rng = np.random.RandomState(seed)
    for value in together:
        chosen = [part[rng.choice(len(part), size, replace=False)] for part in (real, fake)]
        assert value == pytest.approx(kid.squared_mmd(*chosen).item(), rel=1e-4, abs=1e-4)
