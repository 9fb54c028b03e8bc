"""Two sets of images against one another, without a run: what `gankiln evaluate` does."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from jobs.errors import SpecError
from jobs.evaluation.evaluator import Evaluator
from jobs.evaluation.rows import MetricRow
from jobs.evaluation.trust import trust
from jobs.spec.evaluation import Evaluation


def evaluate_sets(
    image_NCHW: np.ndarray,
    real_NCHW: np.ndarray,
    section: Evaluation,
    *,
    cache_dir: Path,
    device: torch.device,
    labels_N: np.ndarray | None = None,
    weights_dir: Path | None = None,
) -> tuple[list[MetricRow], list[str]]:
    """The table of `image_NCHW` against `real_NCHW` (uint8, sanity rows included), and what not to believe of it.

    Sizes may differ where every feature space resizes. Raises SpecError where one does not; DataError for fewer than
    four real images; SpecError for fewer than two of the others.
    """
    _check(image_NCHW, real_NCHW, section)
    evaluator = Evaluator(
        section,
        real_NCHW,
        digest=digest_of(real_NCHW),
        cache_dir=cache_dir,
        device=device,
        labels_N=labels_N,
        weights_dir=weights_dir,
    )
    rows = evaluator.measure_images(image_NCHW)
    sanity = evaluator.sanity() if section.sanity else []
    return rows + sanity, trust(sanity)


def _check(image_NCHW: np.ndarray, real_NCHW: np.ndarray, section: Evaluation) -> None:
    if len(image_NCHW) < 2:
        raise SpecError(f"evaluate: {len(image_NCHW)} images to judge; two are the least that have a distribution")
    if image_NCHW.shape[1:] == real_NCHW.shape[1:]:
        return
    asked = (*section.features, *section.metrics)
    strict = [name for name in asked if name in ("pixels", "spectrum_gap")]
    if strict:
        raise SpecError(
            f"evaluate: images are {_size(image_NCHW)}, the data is {_size(real_NCHW)}: "
            f"{' and '.join(strict)} can only compare images of one size",
            hint="leave out " + " and ".join(strict) + ", or resize one of the sets first and say with which filter",
        )


def _size(image_NCHW: np.ndarray) -> str:
    channels, height, width = image_NCHW.shape[1:]
    return f"{width}x{height} with {channels} channels"


def digest_of(image_NCHW: np.ndarray) -> str:
    """sha256 of the shape and content of images, read a block at a time."""
    digest = hashlib.sha256(repr(image_NCHW.shape).encode())
    for start in range(0, len(image_NCHW), 256):
        digest.update(np.ascontiguousarray(image_NCHW[start : start + 256]).data)
    return digest.hexdigest()
