import numpy as np
import pytest
import torch

from jobs.evaluation.spectrum import bootstrap_gap, gap, ring_powers


def pictures(count: int, seed: int) -> torch.Tensor:
    """Noise with the 1/f amplitude of photographs, [N, 32, 32] around 0.5."""
    noise = torch.randn(count, 32, 32, generator=torch.Generator().manual_seed(seed))
    frequency = (torch.fft.fftfreq(32)[:, None] ** 2 + torch.fft.fftfreq(32) ** 2).sqrt().clamp(min=1 / 32)
    return 0.5 + 0.02 * torch.fft.ifft2(torch.fft.fft2(noise) / frequency).real


def test_equal_sources_have_no_gap_and_doubled_contrast_is_six_decibel() -> None:
    real, other = pictures(200, 1), pictures(200, 2)
    assert gap(ring_powers(real), ring_powers(other), 32).decibel < 0.3
    doubled = gap(ring_powers(real), ring_powers(0.5 + 2 * (real - 0.5)), 32)
    assert doubled.decibel == pytest.approx(20 * np.log10(2), abs=0.1)
    assert doubled.widest_decibel > 0


def test_a_checkerboard_shows_at_every_other_pixel() -> None:
    real = pictures(100, 1)
    board = 0.05 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2 - 1)
    found = gap(ring_powers(real), ring_powers(pictures(100, 2) + board), 32)
    assert found.widest_decibel > 6
    assert found.widest_frequency == pytest.approx(0.5 * 2**0.5, abs=0.05)
    stripes = 0.05 * (torch.arange(32) % 2 * 2 - 1)
    assert gap(ring_powers(real), ring_powers(real + stripes), 32).widest_frequency == pytest.approx(0.5, abs=0.05)


def test_blur_shows_as_missing_power() -> None:
    real = pictures(100, 1)
    blurred = torch.nn.functional.avg_pool2d(real[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    assert gap(ring_powers(real), ring_powers(blurred), 32).widest_decibel < -6


def test_flat_pictures_are_finite_and_any_shape_is_taken() -> None:
    flat = ring_powers(torch.full((3, 20, 28), 0.3))
    assert torch.isfinite(gap(flat, ring_powers(torch.rand(3, 20, 28)), 20).__dict__["decibel"] * torch.ones(1)).all()
    assert (flat > 0).all()


def test_the_interval_holds_the_value() -> None:
    real, fake = ring_powers(pictures(80, 1)), ring_powers(pictures(60, 2) * 1.3)
    low, high = bootstrap_gap(real, fake, seed=0)
    assert low < gap(real, fake, 32).decibel < high
    assert bootstrap_gap(real, fake, seed=0) == (low, high)
