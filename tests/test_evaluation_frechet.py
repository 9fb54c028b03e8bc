import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluation import frechet

REFERENCE = Path(__file__).parent / "reference_metrics"
VALUES = json.loads((REFERENCE / "reference_values.json").read_text())["values"]


def features(name: str) -> torch.Tensor:
    with np.load(REFERENCE / "features.npz") as file:
        return torch.from_numpy(file[name].astype(np.float64))


@pytest.mark.parametrize("name", ["fake", "collapsed", "memorised"])
def test_agrees_with_the_trusted_libraries(name: str) -> None:
    expected = VALUES[f"real_vs_{name}/fid"]
    value = frechet.frechet_distance(features("real"), features(name))
    assert value == pytest.approx(expected["clean-fid sqrtm float64"], rel=1e-9)
    assert value == pytest.approx(expected["torch-fidelity eigvals float64"], rel=1e-9)


def test_fewer_images_than_dimensions_keeps_every_digit() -> None:
    # The square-root libraries give 28.70787365 here: seven digits. The nuclear norm is exact.
    exact = VALUES["rank_deficient_40x64/fid"]["exact: nuclear norm of centred cross product, float64"]
    value = frechet.frechet_distance(features("real")[:40], features("fake")[:40])
    assert value == pytest.approx(exact, rel=1e-12)


def test_closed_form_of_diagonal_gaussians() -> None:
    first, second = np.linspace(0.1, 2, 64), np.linspace(1, 3, 64)[::-1].copy()
    expected = (0.25**2 + first + second - 2 * np.sqrt(first * second)).sum()
    assert VALUES["analytic_diagonal/fid"]["clean-fid"] == pytest.approx(expected, rel=1e-12)

    def gaussian(mean: float, variances: np.ndarray) -> frechet.Gaussian:
        factor = torch.from_numpy(np.diag(np.sqrt(variances)))
        return frechet.Gaussian(torch.full((64,), mean).double(), factor, full_rank=True)

    assert frechet.distance(gaussian(0.0, first), gaussian(0.25, second)) == pytest.approx(expected, rel=1e-12)


def exact(real: torch.Tensor, fake: torch.Tensor) -> float:
    """The nuclear norm of the centred cross product in numpy: slow, and right for every rank."""
    a, b = real.numpy(), fake.numpy()
    centred_a, centred_b = a - a.mean(0), b - b.mean(0)
    overlap = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    spread = centred_a.var(0, ddof=1).sum() + centred_b.var(0, ddof=1).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2 * overlap)


@given(
    images=st.tuples(st.integers(3, 60), st.integers(3, 60)),
    dimensions=st.integers(1, 40),
    dead=st.integers(0, 3),
    rank=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_exact_for_every_shape_and_rank(images, dimensions, dead, rank, seed) -> None:
    """More or fewer images than dimensions, features that never move, features that depend on one another."""
    rng = torch.Generator().manual_seed(seed)
    basis = torch.randn(rank, dimensions, generator=rng, dtype=torch.float64)
    sets = [torch.randn(n, rank, generator=rng, dtype=torch.float64) @ basis + i for i, n in enumerate(images)]
    for features_ND in sets:
        features_ND[:, :dead] = 0.5
    value, reference = frechet.frechet_distance(*sets), exact(*sets)
    scale = sum(float(features_ND.var(0).sum()) for features_ND in sets) + 1e-9
    assert value == pytest.approx(reference, rel=1e-6, abs=1e-6 * scale)


def test_a_set_has_no_distance_to_itself_and_order_does_not_matter() -> None:
    real, fake = features("real"), features("fake")
    assert frechet.frechet_distance(real, real.flip(0)) == pytest.approx(0, abs=1e-9)
    assert frechet.frechet_distance(real, fake) == pytest.approx(frechet.frechet_distance(fake, real), rel=1e-9)
