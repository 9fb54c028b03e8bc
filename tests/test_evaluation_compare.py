from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.errors import SpecError
from jobs.evaluation.compare import digest_of, evaluate_sets
from jobs.spec.evaluation import Evaluation

CPU = torch.device("cpu")
SECTION = Evaluation(samples=50, features=("pixels", "random_conv"), kid_subsets=5, intervals=False)


def blobs(count: int, seed: int, side: int = 10, mean: int = 128) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return (
        rng.normal(mean + rng.normal(0, 30, (count, 1, 1, 1)), 10, (count, 1, side, side)).clip(0, 255).astype(np.uint8)
    )


def test_like_is_nearer_than_unlike(tmp_path: Path) -> None:
    real = blobs(150, 0)
    like, sentences = evaluate_sets(blobs(60, 1), real, SECTION, cache_dir=tmp_path, device=CPU)
    unlike, _ = evaluate_sets(blobs(60, 2, mean=60), real, SECTION, cache_dir=tmp_path, device=CPU)
    value = {
        name: next(row.value for row in rows if row.metric == "fd")
        for name, rows in zip("ab", (like, unlike), strict=True)
    }
    assert value["a"] < value["b"] / 5
    assert like[0].samples == 50
    assert {row.label for row in like} >= {"", "real against noise"}
    assert all(isinstance(sentence, str) for sentence in sentences)


def test_other_sizes_only_where_features_resize(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"14x14 with 1 channels, the data is 10x10 .*pixels and spectrum_gap"):
        evaluate_sets(blobs(60, 1, side=14), blobs(60, 0), SECTION, cache_dir=tmp_path, device=CPU)
    section = SECTION.model_copy(update={"features": ("random_conv",), "metrics": ("fd",), "sanity": False})
    rows, sentences = evaluate_sets(blobs(60, 1, side=14), blobs(60, 0), section, cache_dir=tmp_path, device=CPU)
    assert (len(rows), sentences) == (1, [])


def test_one_image_has_no_distribution(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="1 images to judge"):
        evaluate_sets(blobs(1, 1), blobs(60, 0), SECTION, cache_dir=tmp_path, device=CPU)


def test_digest_is_of_content_and_shape() -> None:
    images = blobs(300, 0)
    assert digest_of(images) == digest_of(images.copy())
    assert digest_of(images) != digest_of(images[:299])
    changed = images.copy()
    changed[299, 0, 9, 9] ^= 1
    assert digest_of(images) != digest_of(changed)
    assert digest_of(images) != digest_of(images.reshape(300, 1, 5, 20))
