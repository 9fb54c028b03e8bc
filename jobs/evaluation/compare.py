"""Two sets of images against one another, without a run: what `gankiln evaluate` does."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jobs.errors import SpecError
from jobs.evaluation.evaluator import Evaluator, Sample
from jobs.evaluation.features import Extractor
from jobs.evaluation.path_length import Latent
from jobs.evaluation.reconstruction import Reconstruction
from jobs.evaluation.rows import MetricRow
from jobs.evaluation.trust import trust
from jobs.spec.evaluation import Evaluation, ReconstructionMetric

Seen = Callable[[str, int], None]
"""Called with a feature space and so many images that have just been taken there."""


@dataclass(frozen=True)
class Generator:
    """A trained generator in place of images."""

    sample: Sample
    latent: Latent | None = None
    """What path lengths need; None where it has no latents."""


def evaluate_sets(
    judged: np.ndarray | Generator,
    real_NCHW: np.ndarray,
    section: Evaluation,
    *,
    cache_dir: Path,
    device: torch.device,
    labels_N: np.ndarray | None = None,
    weights_dir: Path | None = None,
    seen: Seen | None = None,
) -> tuple[list[MetricRow], list[str]]:
    """The table of `judged` against `real_NCHW` (uint8 [N, C, H, W]), sanity rows included, and what not to believe.

    Sizes of images may differ where every feature space resizes. Raises SpecError where one does not; DataError for
    fewer than four real images; SpecError for fewer than two of the others.
    """
    if isinstance(judged, np.ndarray):
        _check(judged, real_NCHW, section)
    evaluator = Evaluator(
        section,
        real_NCHW,
        digest=digest_of(real_NCHW),
        cache_dir=cache_dir,
        device=device,
        labels_N=labels_N,
        weights_dir=weights_dir,
    )
    if seen is not None:
        evaluator.extractors = [_told(extractor, seen) for extractor in evaluator.extractors]
    if isinstance(judged, Generator):
        rows = evaluator.measure(judged.sample, 0, latent=judged.latent)
    else:
        rows = evaluator.measure_images(judged)
    sanity = evaluator.sanity() if section.sanity else []
    return rows + sanity, trust(sanity)


def evaluate_pairs(
    made_NCHW: np.ndarray,
    target_NCHW: np.ndarray,
    metrics: Sequence[ReconstructionMetric],
    section: Evaluation,
    *,
    cache_dir: Path,
    device: torch.device,
    weights_dir: Path | None = None,
) -> list[MetricRow]:
    """How faithful each of `made_NCHW` is to the target (both uint8) at its place.

    Raises SpecError for other counts or sizes.
    """
    if made_NCHW.shape != target_NCHW.shape:
        raise SpecError(
            f"evaluate: {len(made_NCHW)} images of {_size(made_NCHW)} cannot be paired with {len(target_NCHW)} of "
            f"{_size(target_NCHW)}",
            hint="pairs need as many images in both sets, and none of them damaged",
        )
    measured = Reconstruction(
        metrics,
        device=device,
        cache_dir=cache_dir,
        weights_dir=weights_dir,
        lpips=section.lpips,
        seed=section.seed,
    )
    return measured.measure(_pairs(made_NCHW, target_NCHW, section.batch), 0)


def _pairs(made_NCHW: np.ndarray, target_NCHW: np.ndarray, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(made_NCHW), batch):
        blocks = (np.array(images[start : start + batch]) for images in (target_NCHW, made_NCHW))
        target, made = (torch.from_numpy(block).float() / 127.5 - 1 for block in blocks)
        yield target, made


def _told(extractor: Extractor, seen: Seen) -> Extractor:
    """`extractor`, which says what it has done."""

    def network(image_NCHW: Tensor) -> Tensor:
        feature_ND = extractor.network(image_NCHW)
        seen(extractor.space, len(image_NCHW))
        return feature_ND

    return replace(extractor, network=network)


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
