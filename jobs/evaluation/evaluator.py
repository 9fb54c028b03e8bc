"""Measures a generator against its data: samples once, takes features once, fills the table.

evaluator = Evaluator(section, image_NCHW, digest=digest, cache_dir=cache, device=device, labels_N=labels)
rows = evaluator.measure(recipe.sample, images)
rows += evaluator.sanity()
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jobs.errors import DataError, InternalError
from jobs.evaluation import modes, path_length, perceptual, table, trust
from jobs.evaluation.cache import cached
from jobs.evaluation.classifier import Labelled
from jobs.evaluation.features import Extractor, Places, Space, extract, open_pairs, open_space, open_spectrum
from jobs.evaluation.nearest import Nearest, nearest_of
from jobs.evaluation.path_length import Latent
from jobs.evaluation.pictures import quantise
from jobs.evaluation.rows import MetricRow
from jobs.spec.evaluation import Evaluation

logger = logging.getLogger(__name__)

Sample = Callable[[int, int], Tensor]
"""(count, seed) -> `count` images [count, C, H, W] in [-1, 1]"""
Progress = Callable[[int, int], None]
"""(done, total) in images"""
Features = dict[Space, Tensor]
References = dict[Space, table.Reference]


class Evaluator:
    """One data set, ready to be compared with.

    `real_NCHW` is uint8 and may be memory-mapped: only the images drawn are read. `digest` names its content and
    settings; features are cached in `cache_dir` under it. Results depend on section, data and weights alone.
    Raises DataError for fewer than four images, InternalError if the weights of a feature space are absent.
    """

    def __init__(
        self,
        section: Evaluation,
        real_NCHW: np.ndarray,
        *,
        digest: str,
        cache_dir: Path,
        device: torch.device,
        labels_N: np.ndarray | None = None,
        weights_dir: Path | None = None,
    ) -> None:
        if len(real_NCHW) < 4:
            raise DataError(f"evaluation: the data holds {len(real_NCHW)} images; four are the least to compare with")
        self.section, self.real_NCHW, self.labels_N = section, real_NCHW, labels_N
        self.digest, self.cache_dir, self.device = digest, cache_dir, device
        self.places = Places(cache_dir, weights_dir)
        self.extractors = self._open()
        self._order = np.random.RandomState(section.seed).permutation(len(real_NCHW))
        self._real: References | None = None

    def _open(self) -> list[Extractor]:
        """One extractor a feature space, and those that single metrics need."""
        section, labels_N = self.section, self.labels_N
        labelled = Labelled(self.real_NCHW, labels_N, self.digest) if labels_N is not None else None
        extractors = [open_space(space, self.device, self.places, labelled) for space in section.features]
        if "spectrum_gap" in section.metrics:
            extractors.append(open_spectrum(self.device))
        if "lpips_diversity" in section.metrics:
            extractors.append(open_pairs(section.lpips, self.device, self.places))
        return extractors

    @property
    def real_samples(self) -> int:
        """Images of the data that generated ones are compared with."""
        return min(self.section.real_samples or self.section.samples, len(self.real_NCHW))

    def measure(
        self,
        sample: Sample,
        images: int,
        *,
        progress: Progress | None = None,
        label: str = "",
        latent: Latent | None = None,
    ) -> list[MetricRow]:
        """The table of a generator after `images` real images were shown. Samples are a function of the seed alone.

        Path lengths need `latent`; without it they are left out, and the log says so.
        """
        rows = self._compare(self._generated(sample, progress), images=images, label=label)
        return rows + self._path_lengths(latent, images, label)

    def measure_images(self, image_NCHW: np.ndarray, images: int = 0, *, label: str = "") -> list[MetricRow]:
        """The table of given images, uint8 [N, C, H, W], of any count; at most the section's `samples`."""
        order = np.random.RandomState(self.section.seed).permutation(len(image_NCHW))[: self.section.samples]
        return self._compare((self._read(batch, image_NCHW) for batch in self._batches(order)), images, label)

    def sanity(self) -> list[MetricRow]:
        """What the table says of pairs whose answer is known: two samples of the data; the data and noise; the data
        and every second of its modes (classes, or clusters of pixels). `trust` puts it into words.

        The first comparison stands twice: with as many images as there are, and with as many as the others have.
        """
        reference, held_out = self._disjoint()
        drawn = len(reference) == self.real_samples
        real, other = self._drawn() if drawn else self._references(reference), self._features_of(held_out)
        kept = np.flatnonzero(modes.half_of_modes(self._modes(held_out)))
        rows = self._table(real, other, images=0, label=trust.REAL)
        count = len(kept) if len(kept) >= 2 else len(held_out)
        if count < len(held_out):
            fewer = self._some(other, held_out, np.arange(count))
            rows += self._table(real, fewer, images=0, label=trust.REAL)
        rows += self._table(real, self._noise(held_out[:count]), images=0, label=trust.NOISE)
        if len(kept) >= 2:
            rows += self._table(real, self._some(other, held_out, kept), images=0, label=trust.HALF)
        return rows

    def nearest(self, sample_MCHW: Tensor, k: int) -> Nearest:
        """The k images nearest to each sample ([-1, 1]) among all of the data, by distance of pixels."""
        pixels = open_space("pixels", self.device, self.places)
        blocks = (pixels(self._read(positions)) for positions in self._batches(np.arange(len(self.real_NCHW))))
        return nearest_of(pixels(quantise(sample_MCHW)).to(self.device), blocks, k)

    def _compare(self, batches: Iterator[Tensor], images: int, label: str) -> list[MetricRow]:
        """The table of uint8 batches against the real images drawn."""
        return self._table(self._drawn(), extract(batches, self.extractors), images=images, label=label)

    def _path_lengths(self, latent: Latent | None, images: int, label: str) -> list[MetricRow]:
        asked = [metric for metric in self.section.metrics if metric in ("ppl_z", "ppl_w")]
        if asked and latent is None:
            logger.warning("%s left out: this generator shows no latents", " and ".join(asked))
        if not asked or latent is None:
            return []
        lpips = perceptual.load("vgg", self.places.weights_dir, self.places.cache_dir).to(self.device)
        return path_length.rows(latent, lpips, self.section, images, label)

    def _table(self, real: References, fake: Features, *, images: int, label: str) -> list[MetricRow]:
        rows: list[MetricRow] = []
        first = self.section.features[0]
        for extractor in self.extractors:
            shared = MetricRow(
                metric="",
                features=extractor.space,
                value=0.0,
                images=images,
                samples=len(fake[first]),
                real_samples=len(real[first].real_ND),
                resize=extractor.resize,
                seed=self.section.seed,
                label=label,
            )
            fake_MD = table.to_device(fake[extractor.space], self.device)
            side = min(self.real_NCHW.shape[2:])
            rows += table.rows(table.Comparison(real[extractor.space], fake_MD, extractor, shared, side))
        return rows

    def _generated(self, sample: Sample, progress: Progress | None) -> Iterator[Tensor]:
        """uint8 batches of generated images, each from its own seed."""
        total = self.section.samples
        for number, start in enumerate(range(0, total, self.section.batch)):
            count = min(self.section.batch, total - start)
            seed = int(np.random.SeedSequence((self.section.seed, number)).generate_state(1)[0])
            image_NCHW = sample(count, seed)
            if image_NCHW.shape != (count, *self.real_NCHW.shape[1:]):
                raise InternalError(
                    f"evaluation: asked the generator for {(count, *self.real_NCHW.shape[1:])}, "
                    f"got {tuple(image_NCHW.shape)}; only images of one shape can be compared"
                )
            yield quantise(image_NCHW)
            if progress is not None:
                progress(start + count, total)

    def _drawn(self) -> References:
        """The real images of the table, which every evaluation of a run shares."""
        if self._real is None:
            self._real = self._references(self._order[: self.real_samples])
        return self._real

    def _references(self, positions: np.ndarray) -> References:
        features = self._features_of(positions)
        return {space: table.Reference(table.to_device(x, self.device), self.section) for space, x in features.items()}

    def _disjoint(self) -> tuple[np.ndarray, np.ndarray]:
        """Disjoint positions, shuffled: the table's real images and as many others as it has samples, or halves."""
        total, wanted = len(self._order), self.real_samples + self.section.samples
        reference = self.real_samples if total >= wanted else total // 2
        return self._order[:reference], self._order[reference : min(wanted, total)]

    def _features_of(self, positions: np.ndarray) -> Features:
        """Features of some images of the data, from the cache where they are there."""
        return {extractor.space: self._cached(extractor, positions) for extractor in self.extractors}

    def _some(self, features: Features, positions: np.ndarray, kept: np.ndarray) -> Features:
        """Features of those of the images that are kept; where rows are pairs, they are paired anew."""
        return {
            extractor.space: self._cached(extractor, positions[kept])
            if extractor.pairs
            else features[extractor.space][torch.from_numpy(kept)]
            for extractor in self.extractors
        }

    def _cached(self, extractor: Extractor, positions: np.ndarray) -> Tensor:
        def compute() -> np.ndarray:
            batches = (self._read(batch) for batch in self._batches(positions))
            return extract(batches, [extractor])[extractor.space].numpy()

        depends_on = (self.digest, extractor.resize, extractor.version, positions.tolist())
        return torch.from_numpy(cached(self.cache_dir, extractor.space, depends_on, compute))

    def _modes(self, positions: np.ndarray) -> np.ndarray:
        if self.labels_N is not None:
            return modes.classes(np.asarray(self.labels_N)[positions])
        pixels = open_space("pixels", self.device, self.places)
        features_ND = torch.cat([pixels(self._read(batch)) for batch in self._batches(positions)])
        return modes.clusters(features_ND.to(self.device), self.section.seed)

    def _noise(self, positions: np.ndarray) -> Features:
        """Features of noise with the mean and the standard deviation that each pixel has in the data."""
        batches = list(self._batches(positions))
        mean_CHW, square_CHW = torch.zeros(2, *self.real_NCHW.shape[1:], dtype=torch.float64)
        for image_NCHW in (self._read(batch).double() for batch in batches):
            mean_CHW += image_NCHW.sum(0) / len(positions)
            square_CHW += image_NCHW.square().sum(0) / len(positions)
        deviation_CHW = (square_CHW - mean_CHW**2).clamp(min=0).sqrt()
        rng = np.random.RandomState(self.section.seed)
        draws = (torch.from_numpy(rng.standard_normal((len(batch), *mean_CHW.shape))) for batch in batches)
        noise = ((mean_CHW + deviation_CHW * draw).round().clamp(0, 255).to(torch.uint8) for draw in draws)
        return extract(noise, self.extractors)

    def _batches(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        return (positions[i : i + self.section.batch] for i in range(0, len(positions), self.section.batch))

    def _read(self, positions: np.ndarray, image_NCHW: np.ndarray | None = None) -> Tensor:
        source_NCHW = self.real_NCHW if image_NCHW is None else image_NCHW
        return torch.from_numpy(np.ascontiguousarray(source_NCHW[positions]))
