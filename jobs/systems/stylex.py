"""StylEx: the classifier that is explained, and how well images are rebuilt as it sees them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.data import ImageBatch
from jobs.data.dataset import Dataset
from jobs.diagnosis import table
from jobs.diagnosis.detector import Images
from jobs.diagnosis.inputs import Steps
from jobs.diagnosis.rebuilt import Rebuilt, laplacian_energy
from jobs.errors import SpecError
from jobs.evaluation import frechet, perceptual
from jobs.evaluation.evaluator import Evaluator
from jobs.evaluation.intervals import bootstrap_mean
from jobs.evaluation.pictures import for_lpips, quantise, to_rgb
from jobs.evaluation.random_conv import RandomConv
from jobs.evaluation.reconstruction import Reconstruction
from jobs.evaluation.rows import MetricRow
from jobs.evaluation.weights import backbone_of_lpips, is_present
from jobs.losses.reconstruction import activation_distance
from jobs.networks.classifier import ImageClassifier
from jobs.recipes.stylex import StylEx
from jobs.report import pictures
from jobs.report.model import Explanation, Picture
from jobs.spec import stylex as spec
from jobs.spec.data import PlantedAttributes
from jobs.spec.evaluation import ReconstructionMetric
from jobs.systems import explaining
from jobs.systems.explained import explained_classifier, measured, sentence
from jobs.systems.system import Beforehand, Surroundings, System, Watched
from jobs.training.recipe import Known
from jobs.training.seeds import derived_seed

Distance = Callable[[Tensor, Tensor], Tensor]

CHUNK = 64
"""Pictures at a time."""
MOST_LOOKED_AT = 128
"""Images that detectors read."""
TOP = 4
"""Coordinates whose effect on known attributes is said as a metric."""
LEAST_CHANGE = 0.2
"""Share of images on which a coordinate must change a cause to have found it."""


def known_of(section: spec.StylEx, known: Known, given: Beforehand) -> Known:
    """`known` with the classifier, a perceptual distance, and real images to be encoded."""
    classifier, found = explained_classifier(section.classifier, given)
    given.say(sentence(found))
    return Known(
        class_counts=known.class_counts,
        conditions=lambda count, seed: drawn_images(given.dataset, count, seed),
        classifier=classifier,
        perceptual=perceptual_distance(section.reconstruction.perceptual, classifier, given),
    )


def drawn_images(dataset: Dataset, count: int, seed: int) -> ImageBatch:
    """`count` real images drawn by `seed`."""
    rng = np.random.PCG64(derived_seed("real images", seed))
    index_N = (rng.random_raw(count) % np.uint64(len(dataset.images_NCHW))).astype(np.int64)
    image_NCHW = torch.from_numpy(np.ascontiguousarray(dataset.images_NCHW[index_N]))
    label_N = None if dataset.labels_N is None else torch.from_numpy(np.asarray(dataset.labels_N)[index_N])
    return ImageBatch(image_NCHW, label_N)


def perceptual_distance(section: spec.Perceptual, classifier: ImageClassifier, given: Beforehand) -> Distance | None:
    """The perceptual term of the reconstruction, of images in [-1, 1]."""
    match section.kind:
        case "none":
            return None
        case "classifier":
            return lambda x, y: activation_distance(classifier.activations(x), classifier.activations(y))
        case "random_conv":
            random = RandomConv().to(given.device).requires_grad_(False)
            return lambda x, y: activation_distance(random.activations(_rgb(x)), random.activations(_rgb(y)))
        case "lpips":
            if not is_present(backbone_of_lpips(section.network), given.weights_dir):
                raise SpecError(
                    f"recipe.reconstruction.perceptual: the weights of {section.network} are not here",
                    hint="kind: classifier and kind: random_conv need none; `gankiln doctor` says which are here",
                )
            cache_dir = given.cache_dir / "features"
            lpips = perceptual.load(section.network, given.weights_dir, cache_dir).to(given.device)
            return lambda x, y: lpips(_at_least_64(x), _at_least_64(y)).mean()


def _rgb(image_NCHW: Tensor) -> Tensor:
    return to_rgb((image_NCHW + 1) * 127.5) / 127.5 - 1


def _at_least_64(image_NCHW: Tensor) -> Tensor:
    return for_lpips(to_rgb((image_NCHW + 1) * 127.5))


class StylExSystem(System):
    """What a StylEx adds."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        assert isinstance(around.recipe, StylEx)
        self.recipe, self.section = around.recipe, around.recipe.section
        self._embed = RandomConv().eval().to(around.device)
        self._explanation: Explanation | None = None
        if self.section.encodes:
            self.drawn_from = "inputs, each before its reconstruction"

    def shown(self, count: int, seed: int) -> Tensor:
        """Real images and their reconstructions, by turns."""
        if not self.section.encodes:
            return super().shown(count, seed)
        real = self._real(-(-count // 2), seed)
        return torch.stack([real, self._rebuilt(real)], dim=1).flatten(0, 1)[:count]

    def rows(self, images: int, label: str) -> Iterable[MetricRow | dict[str, Any]]:
        """The classifier, reconstructions as it sees them, and at the end the search."""
        yield from self._classifier_rows(images, label)
        if self.section.encodes:
            yield from self._rebuilt_rows(images, label)
        if not label and images >= self.around.job.training.images:
            yield from self._search_rows(images)

    def watched(self, images: int, steps: Steps) -> Iterable[Watched]:
        """Reconstructions of the same images at every check."""
        if not self.section.encodes:
            return []
        return [(table.OF_REBUILT, self._look(min(self.around.job.diagnosis.samples, MOST_LOOKED_AT)))]

    def pictures(self, images: int) -> tuple[Picture, ...]:
        """The sheet of the search has a section of its own."""
        if self._explanation is None:  # the metrics were said by an earlier attempt
            self._explain()
        return ()

    def explanation(self) -> Explanation | None:
        """Of the last search."""
        return self._explanation

    def _explain(self) -> explaining.Search:
        job, count = self.around.job, self.section.attfind.images
        real = self._real(count, derived_seed("explained", job.seed)) if self.section.encodes else None
        found = explaining.search(
            self.recipe, real, self.section.attfind, self.around.dataset.class_names, job.recipe.data
        )
        self._explanation = explaining.write(found, self.around.out)
        return found

    def _classifier_rows(self, images: int, label: str) -> Iterator[dict[str, Any]]:
        found = measured(self.recipe.classifier, self.around.dataset)
        values = {
            "classifier_accuracy": found.accuracy,
            "classifier_class_accuracy": found.class_accuracy,
            "calibration_error": found.calibration_error,
        }
        shared = {"features": "classifier", "images": images, "samples": found.images, "label": label}
        for name, value in values.items():
            yield {"metric": name, "value": value, **shared}

    def _rebuilt_rows(self, images: int, label: str) -> Iterator[MetricRow | dict[str, Any]]:
        """Distances to the image, the classifier's answers, and where w lies."""
        evaluation = self.around.job.evaluation
        count = min(evaluation.samples, len(self.around.dataset.images_NCHW))
        real = self._real(count, derived_seed("rebuilt", evaluation.seed))
        made = self._rebuilt(real)
        pairs = zip(real.split(CHUNK), made.split(CHUNK), strict=True)
        for row in self._distances().measure(pairs, images):
            yield replace(row, label=label)
        said_NK, says_NK = (self._probabilities(image) for image in (real, made))
        same_N = (said_NK.argmax(1) == says_NK.argmax(1)).astype(np.float64)
        kl_N = (said_NK * np.log(said_NK.clip(1e-12) / says_NK.clip(1e-12))).sum(1)
        sharp = laplacian_energy(_uint8(made)) / max(laplacian_energy(_uint8(real)), 1e-12)
        yield {"metric": "sharpness", "features": "pixels", "value": sharp, "images": images, "samples": count,
               "label": label}  # fmt: skip
        for name, value_N in (("classifier_agreement", same_N), ("classifier_kl", kl_N)):
            low, high = bootstrap_mean(value_N, evaluation.seed)
            yield MetricRow(
                metric=name, features="classifier", value=float(value_N.mean()), images=images, samples=count,
                interval_low=low, interval_high=high, interval_kind="95 %, bootstrap over images", label=label,
            )  # fmt: skip
        if self.section.draws:
            encoded, mapped = self._clouds(real)
            gaussian = frechet.fit(torch.from_numpy(encoded)), frechet.fit(torch.from_numpy(mapped))
            distance = frechet.distance(*gaussian) / max(float(gaussian[0].trace), 1e-12)
            note = "Fréchet distance of encoder's and mapping's w, over the trace of the encoder's covariance"
            yield {"metric": "w_distance", "features": "w", "value": distance, "images": images, "samples": count,
                   "label": label, "note": note}  # fmt: skip
        yield from self._fd_rows(made, images, " ".join(filter(None, (label, "reconstructions"))))

    def _search_rows(self, images: int) -> Iterator[MetricRow | dict[str, Any]]:
        """Flip rates, distances of counterfactuals from the data, and whether known causes were found."""
        found = self._explain()
        told = self._explanation
        assert told is not None
        for kind, rates in (("independent", told.flips_independent), ("subset", told.flips_subset)):
            if rates:
                yield {"metric": "flip_rate", "features": kind, "value": rates[-1], "images": images,
                       "samples": told.explained, "note": f"with {len(rates)} coordinates"}  # fmt: skip
        for most in (1, 2, 4, 8):
            if most <= len(told.flips_independent) and len(moved := found.counterfactuals(most)) > 1:
                yield from self._fd_rows(moved, images, f"{most} coordinates moved")
        data = self.around.job.recipe.data
        if isinstance(data, PlantedAttributes) and found.attribute_changes:
            yield from _causes(found.attribute_changes[:TOP], data.causal, images)

    def _fd_rows(self, image_NCHW: Tensor, images: int, label: str) -> list[MetricRow]:
        """Fréchet distances (and FID, where asked for) of given pictures from the data."""
        evaluation = self.around.job.evaluation
        kept = tuple(metric for metric in evaluation.metrics if metric in ("fd", "fid"))
        if not kept:
            return []
        section = evaluation.model_copy(update={"metrics": kept, "intervals": False})
        around = self.around
        evaluator = Evaluator(
            section, around.dataset.images_NCHW, digest=around.dataset.digest, cache_dir=around.cache_dir / "features",
            device=around.device, labels_N=around.dataset.labels_N, weights_dir=around.weights_dir,
        )  # fmt: skip
        return evaluator.measure_images(quantise(image_NCHW).cpu().numpy(), images, label=label)

    def _distances(self) -> Reconstruction:
        around = self.around
        metrics: list[ReconstructionMetric] = ["l1", "ssim", "psnr"]
        lpips = around.job.evaluation.lpips
        if is_present(backbone_of_lpips(lpips), around.weights_dir):
            metrics.append("lpips")
        return Reconstruction(
            metrics, device=around.device, cache_dir=around.cache_dir / "features", weights_dir=around.weights_dir,
            lpips=lpips, seed=around.job.evaluation.seed,
        )  # fmt: skip

    def _look(self, count: int) -> Rebuilt:
        real = self._real(count, derived_seed("diagnosis", self.around.job.seed))
        made = self._rebuilt(real)
        drawn = self.recipe.paint(self.recipe.draw_w(count, 0)) if self.section.draws else None
        encoded, mapped = self._clouds(real)
        return Rebuilt(
            real_NCHW=_uint8(real),
            made_NCHW=_uint8(made),
            real_ND=self._features(real),
            made_ND=self._features(made),
            drawn_MD=None if drawn is None else self._features(drawn),
            said_NK=self._probabilities(real),
            says_NK=self._probabilities(made),
            encoded_ND=encoded,
            mapped_MD=mapped if self.section.draws else None,
            swapped_N=self._swapped(real, made),
        )

    def _swapped(self, real: Tensor, made: Tensor) -> NDArray[np.float64] | None:
        """By how much a class's probability changes when w is told the answer with its classes moved on by one."""
        if self.section.conditioning.source == "none":
            return None
        w_ND, classes = self.recipe.encode(real), len(self.around.dataset.class_names)
        other = torch.cat([w_ND[:, :-classes], w_ND[:, -classes:].roll(1, dims=1)], dim=1)
        target_N = (self._probabilities(real).argmax(1) + 1) % classes
        before, after = (self._probabilities(image) for image in (made, self.recipe.paint(other)))
        rows = np.arange(len(target_N))
        return np.asarray(after[rows, target_N] - before[rows, target_N])

    def _clouds(self, real: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """w of images and w of latents, without what the classifier said."""
        style = self.section.generator.style
        encoded = self.recipe.encode(real)[:, :style]
        mapped = self.recipe.draw_w(len(real), 1)[:, :style]
        return encoded.double().cpu().numpy(), mapped.double().cpu().numpy()

    def _real(self, count: int, seed: int) -> Tensor:
        image = drawn_images(self.around.dataset, count, seed).image_NCHW
        return image.to(self.around.device).float() / 127.5 - 1

    def _rebuilt(self, real: Tensor) -> Tensor:
        return self.recipe.paint(self.recipe.encode(real))

    @torch.no_grad()
    def _probabilities(self, image: Tensor) -> NDArray[np.float64]:
        logits = torch.cat([self.recipe.classifier(part) for part in image.split(CHUNK)])
        return np.asarray(logits.double().softmax(1).cpu().numpy())

    @torch.no_grad()
    def _features(self, image: Tensor) -> NDArray[np.float64]:
        features = torch.cat([self._embed(_rgb(part)) for part in image.split(CHUNK)])
        return np.asarray(features.double().cpu().numpy())


def _causes(changes: list[dict[str, float]], causal: tuple[str, str], images: int) -> Iterator[dict[str, Any]]:
    """Of the first coordinates: what they change of the two causes, and of the attributes that are none."""
    causes = [np.mean([change[name] for name in causal]) for change in changes]
    others = [np.mean([share for name, share in change.items() if name not in causal]) for change in changes]
    mostly = [max(change, key=lambda name: change[name]) in causal for change in changes]
    reached = {name for change in changes for name in causal if change[name] >= LEAST_CHANGE}
    values = {
        "cause_change": np.mean(causes), "other_change": np.mean(others), "cause_precision": np.mean(mostly),
        "cause_recall": len(reached) / len(causal),
    }  # fmt: skip
    for name, value in values.items():
        yield {"metric": name, "features": "attributes", "value": float(value), "images": images,
               "samples": len(changes), "note": f"of the first {len(changes)} coordinates"}  # fmt: skip


def _uint8(image_NCHW: Tensor) -> Images:
    return pictures.from_signed(image_NCHW.float().cpu().numpy())
