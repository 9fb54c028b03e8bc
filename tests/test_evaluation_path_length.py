import numpy as np
import pytest
import torch

from jobs.evaluation.path_length import Latent, path_lengths, slerp


def squared_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first.double() - second.double()).square().sum((1, 2, 3))


def linear_generator(noise: float = 0.0) -> Latent:
    """w = 3 z; every pixel of a 64 x 64 grey image is one coordinate of w."""

    def synthesise(w: torch.Tensor, seed: int) -> torch.Tensor:
        grain = noise * torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)).double()
        return (w.double() / 100)[:, :1, None, None].expand(-1, 1, 64, 64) + grain

    return Latent(size=32, device=torch.device("cpu"), to_w=lambda z, seed: 3 * z.double(), synthesise=synthesise)


def test_length_in_w_is_that_of_a_straight_line() -> None:
    """E|3 (z₁ - z₀)₀ / 100|² a pixel and channel = 9 · 2 / 10⁴, less the tails that are left out."""
    lengths = path_lengths(linear_generator(), squared_distance, "w", pairs=4000, batch=1000, seed=0)
    expected = 64 * 64 * 3 * 9 * 2 / 100**2
    whole = lengths.mean()
    assert expected * 0.8 < whole < expected
    assert len(lengths) == pytest.approx(3920, abs=20)


def test_noise_of_a_pair_is_the_same_and_the_seed_decides() -> None:
    first = path_lengths(linear_generator(), squared_distance, "w", 60, 25, seed=0)
    noisy = path_lengths(linear_generator(noise=0.5), squared_distance, "w", 60, 25, seed=0)
    assert noisy.mean() == pytest.approx(first.mean(), rel=0.02)  # other noise would be seen a million times as strong
    assert np.array_equal(path_lengths(linear_generator(), squared_distance, "w", 60, 25, seed=0), first)
    assert path_lengths(linear_generator(), squared_distance, "w", 60, 25, seed=1).mean() != first.mean()


def test_in_z_the_path_is_an_arc() -> None:
    """On the sphere of radius √D the speed is √D · angle, whose square is about D (π/2)²; one coordinate has 1/D."""
    lengths = path_lengths(linear_generator(), squared_distance, "z", pairs=4000, batch=1000, seed=0)
    expected = 64 * 64 * 3 * 9 * (np.pi / 2) ** 2 / 100**2
    assert expected * 0.75 < lengths.mean() < expected * 1.02


def test_slerp_stays_on_the_sphere_and_meets_its_ends() -> None:
    first, second = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    for t in (0.0, 0.3, 1.0):
        assert slerp(first, second, torch.full((5,), t)).norm(dim=1).tolist() == pytest.approx([4.0] * 5, rel=1e-5)
    unit = torch.nn.functional.normalize
    assert torch.allclose(unit(slerp(first, second, torch.zeros(5))), unit(first), atol=1e-5)
    assert torch.allclose(unit(slerp(first, second, torch.ones(5))), unit(second), atol=1e-5)
