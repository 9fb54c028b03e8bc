import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluation import distances
from jobs.evaluation.distances import blocks, full_precision, nearest, points


def exactly(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    return ((first.double()[:, None] - second.double()[None]) ** 2).sum(2).numpy()


@given(
    shape=st.tuples(st.integers(2, 30), st.integers(2, 30), st.integers(1, 8)),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
    grain=st.sampled_from([1.0, 1e-3]),
    elements=st.integers(1, 400),
    seed=st.integers(0, 2**31),
)
def test_limits_are_decided_exactly_however_far_from_zero(shape, offset, grain, elements, seed) -> None:
    """Lattice points around a large offset: float32 alone would see none of their differences."""
    rng = np.random.default_rng(seed)
    first, second = (torch.from_numpy(rng.integers(0, 4, (n, shape[2])) * grain + offset) for n in shape[:2])
    squared = exactly(first, second)
    limit_of_rows, limit_of_columns = torch.from_numpy(squared[:, 0].copy()), torch.from_numpy(squared[0].copy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "ELEMENTS", elements)
        found = list(blocks(*points(first, second)))
    for strictly, compare in ((True, np.less), (False, np.less_equal)):
        rows = torch.cat([block.within_of_rows(limit_of_rows, strictly=strictly) for block in found])
        columns = torch.cat([block.within_of_columns(limit_of_columns, strictly=strictly) for block in found])
        assert np.array_equal(rows.numpy(), compare(squared, limit_of_rows.numpy()[:, None]))
        assert np.array_equal(columns.numpy(), compare(squared, limit_of_columns.numpy()[None]))


def test_nearest_are_exact_and_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = torch.randn(2, 90, 5, generator=torch.Generator().manual_seed(0)).double()
    expected = np.sort(exactly(first, second), axis=1)[:, :4]
    for elements in (10**6, 200):
        monkeypatch.setattr(distances, "ELEMENTS", elements)
        squared, position = nearest(*points(first, second), k=4)
        np.testing.assert_allclose(squared.numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(exactly(first, second)[np.arange(90)[:, None], position], expected, rtol=1e-12)


def test_no_image_is_its_own_neighbour_but_a_copy_is() -> None:
    (same,) = points(torch.tensor([[0.0], [5.0], [5.0], [9.0]]) + 1e4)
    squared, position = nearest(same, same, k=1)
    assert squared.flatten().tolist() == [25, 0, 0, 16]
    assert position.flatten().tolist()[1:3] == [2, 1]


def test_training_may_allow_tf32_and_finds_it_allowed_again() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
