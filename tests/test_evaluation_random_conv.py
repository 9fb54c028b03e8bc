import pytest
import torch

from jobs.evaluation.random_conv import RandomConv


def test_weights_are_one_fixed_sequence() -> None:
    """Numbers of numpy's Philox counter, written down: no version of a library may change them."""
    first = RandomConv().weight_0.flatten()
    assert first[:3].tolist() == pytest.approx([0.19869287, -0.16147582, -0.21308886], abs=1e-7)
    assert torch.equal(first, RandomConv().weight_0.flatten())


def test_every_feature_is_alive_and_of_sane_size() -> None:
    image = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features_ND = RandomConv()(image)
    assert features_ND.shape == (8, 2 * (32 + 64 + 128))
    assert 0.01 < features_ND.abs().mean().item() < 10
    assert bool((features_ND.std(0) > 0).all())
