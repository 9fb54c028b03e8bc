import numpy as np
import torch

from jobs.evaluation.nearest import nearest_of


def test_the_nearest_over_all_blocks() -> None:
    rng = torch.Generator().manual_seed(0)
    samples, data = torch.randn(7, 4, generator=rng), torch.randn(50, 4, generator=rng)
    found = nearest_of(samples, data.split(9), k=3)
    distances = (samples[:, None].double() - data.double()).norm(dim=2).numpy()
    order = np.argsort(distances, axis=1)[:, :3]
    assert np.array_equal(found.index_MK, order)
    np.testing.assert_allclose(found.distance_MK, np.take_along_axis(distances, order, 1), rtol=1e-6)


def test_a_copy_is_at_exactly_nothing_and_small_data_gives_what_it_has() -> None:
    data = torch.rand(4, 300) * 1000
    found = nearest_of(data[2:3], data.split(3), k=10)
    assert found.index_MK.shape == (1, 4)
    assert (found.index_MK[0, 0], found.distance_MK[0, 0]) == (2, 0.0)
