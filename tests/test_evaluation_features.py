from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Diverged, InternalError, SpecError
from jobs.evaluation.features import Places, extract, open_space
from jobs.evaluation.pictures import bicubic, quantise, to_rgb

CPU = torch.device("cpu")
WITHOUT_EXTRA_WEIGHTS = ("pixels", "random_conv", "efficientnet_lite0")


@given(st.lists(st.integers(0, 255), min_size=1, max_size=64))
def test_quantise_inverts_what_data_does(levels: list[int]) -> None:
    image = torch.tensor(levels, dtype=torch.uint8).reshape(1, 1, 1, -1)
    assert torch.equal(quantise(image.float() / 127.5 - 1), image)


def test_quantise_clips_and_refuses_what_is_not_a_number() -> None:
    assert quantise(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    with pytest.raises(Diverged, match="not finite"):
        quantise(torch.tensor([0.0, torch.nan]))


def test_grey_becomes_three_equal_channels_and_alpha_lies_over_white() -> None:
    grey = torch.full((1, 1, 2, 2), 7, dtype=torch.uint8)
    assert (to_rgb(grey) == 7).all() and to_rgb(grey).shape == (1, 3, 2, 2)
    rgba = torch.tensor([100, 50, 0, 51], dtype=torch.uint8).reshape(1, 4, 1, 1)  # alpha one fifth
    assert to_rgb(rgba).flatten().tolist() == pytest.approx([224.0, 214.0, 204.0])
    with pytest.raises(InternalError, match="2 channels"):
        to_rgb(torch.zeros(1, 2, 1, 1, dtype=torch.uint8))


def test_the_resize_keeps_flat_colour_and_never_leaves_the_range() -> None:
    flat = torch.full((1, 3, 5, 9), 42.0)
    assert bicubic(flat, 16).sub(42).abs().max() < 1e-3
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 255
    assert bicubic(edge, 64).min() >= 0 and bicubic(edge, 64).max() <= 255


@pytest.mark.parametrize("space", WITHOUT_EXTRA_WEIGHTS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_space_takes_every_image(space, channels, tmp_path: Path) -> None:
    image = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (3, channels, 20, 24), dtype=np.uint8))
    extractor = open_space(space, CPU, Places(tmp_path))
    features_ND = extractor(image)
    assert features_ND.dtype == torch.float32 and features_ND.ndim == 2 and len(features_ND) == 3
    assert torch.isfinite(features_ND).all()
    assert torch.allclose(extractor(image[:1]), features_ND[:1], atol=1e-4)  # no image knows of its neighbours


def test_batches_are_read_once_for_all_spaces(tmp_path: Path) -> None:
    made = []

    def batches():
        for value in (10, 200):
            made.append(value)
            yield torch.full((2, 1, 8, 8), value, dtype=torch.uint8)

    features = extract(batches(), [open_space(space, CPU, Places(tmp_path)) for space in ("pixels", "random_conv")])
    assert made == [10, 200]
    assert features["pixels"][:, 0].tolist() == pytest.approx([10 / 255] * 2 + [200 / 255] * 2)
    assert len(features["random_conv"]) == 4


def test_large_images_are_compared_at_32_pixels_a_side(tmp_path: Path) -> None:
    assert open_space("pixels", CPU, Places(tmp_path))(torch.zeros(1, 3, 100, 20, dtype=torch.uint8)).shape == (
        1,
        3 * 32 * 20,
    )


def test_a_classifier_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="this data has none"):
        open_space("classifier", CPU, Places(tmp_path))
