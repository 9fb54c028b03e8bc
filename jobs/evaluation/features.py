"""From pictures to feature spaces: one resize, one range and one network a space, the same for data and samples.

Everything here takes uint8 images: what a generator makes is quantised first, because what a person opens is.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from jobs.errors import SpecError
from jobs.evaluation import classifier, convolutions, dinov2, efficientnet_lite, perceptual, spectrum
from jobs.evaluation.inception import Inception
from jobs.evaluation.pictures import LPIPS_RESIZE, area, bicubic, for_lpips, to_rgb
from jobs.evaluation.random_conv import RandomConv
from jobs.evaluation.weights import locate, sha256_of
from jobs.spec.evaluation import FeatureSpace, LpipsNetwork

PIXELS_SIDE = 32
CPU_BATCH = 8
"""Images at a time on a processor, whose cache holds the activations of no more; even, so that pairs stay pairs."""

Space = FeatureSpace | Literal["spectrum", "lpips_alex", "lpips_vgg", "lpips_squeeze"]
"""A feature space, or what single metrics need of each image (or pair of images) in its place."""

Network = Callable[[Tensor], Tensor]
Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Places:
    """Where weights come from and where what was computed once is kept."""

    cache_dir: Path
    weights_dir: Path | None = None


@dataclass(frozen=True)
class Extractor:
    """Takes images to one space."""

    space: Space
    resize: str
    version: str
    """Changes when the same image gets other features: cached features of other versions are never read."""
    network: Network
    device: torch.device
    head: Head | None = None
    """Features to logits, where the space comes from a classifier."""
    note: str | None = None
    pairs: bool = False
    """Whether a row is a pair of images, and not one image."""

    def __call__(self, image_NCHW: Tensor) -> Tensor:
        """uint8 [N, C, H, W] on any device -> float32 [N, D] on the processor."""
        # Features are stored and compared, so they must not depend on the card: no TF32.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            parts = image_NCHW.split(CPU_BATCH) if self.device.type == "cpu" else (image_NCHW,)
            return torch.cat([self.network(part.to(self.device)).float().cpu() for part in parts])


def open_space(
    space: FeatureSpace, device: torch.device, places: Places, labelled: classifier.Labelled | None = None
) -> Extractor:
    """The extractor of a feature space.

    Raises InternalError if its weights are absent or are not the known ones, SpecError for a classifier without labels.
    """
    match space:
        case "pixels":
            return Extractor(space, f"area to at most {PIXELS_SIDE}", "1", _pixels, device)
        case "random_conv":
            return _network(space, RandomConv(), 64, lambda rgb: rgb / 127.5 - 1, device)
        case "efficientnet_lite0":
            lite0 = efficientnet_lite.load()
            return _with_head(_network(space, lite0, 224, lambda rgb: (rgb - 127) / 128, device), lite0.head)
        case "inception_v3":
            inception = Inception(convolutions.load(space, places.weights_dir, places.cache_dir))
            return _network(space, inception, 299, lambda rgb: (rgb - 128) / 128, device)
        case "vgg16":
            lpips = perceptual.load("vgg", places.weights_dir, places.cache_dir)
            return _network(space, perceptual.LastTap(lpips), 224, lambda rgb: rgb / 127.5 - 1, device)
        case "dinov2":
            return _dinov2(device, places)
        case "classifier":
            return _classifier(device, places, labelled)
        case _:
            assert_never(space)


def open_spectrum(device: torch.device) -> Extractor:
    """Ring powers of each image at its own size."""

    def network(image_NCHW: Tensor) -> Tensor:
        return spectrum.ring_powers(to_rgb(image_NCHW).mean(1) / 255)

    return Extractor("spectrum", "none", "1", network, device)


def open_pairs(lpips: LpipsNetwork, device: torch.device, places: Places) -> Extractor:
    """LPIPS between every image at an even position of its batch and the next one: [N] images -> [N/2, 1]."""
    network = perceptual.load(lpips, places.weights_dir, places.cache_dir).to(device)

    def distances(image_NCHW: Tensor) -> Tensor:
        activations = network.activations(for_lpips(to_rgb(image_NCHW[: len(image_NCHW) // 2 * 2])))
        return network.between([x[0::2] for x in activations], [x[1::2] for x in activations])[:, None]

    match lpips:
        case "alex":
            return Extractor("lpips_alex", LPIPS_RESIZE, "1", distances, device, pairs=True)
        case "vgg":
            return Extractor("lpips_vgg", LPIPS_RESIZE, "1", distances, device, pairs=True)
        case "squeeze":
            return Extractor("lpips_squeeze", LPIPS_RESIZE, "1", distances, device, pairs=True)
        case _:
            assert_never(lpips)


def extract(batches: Iterable[Tensor], extractors: Iterable[Extractor]) -> dict[Space, Tensor]:
    """Every space's features of the same images; each batch (uint8 NCHW) is made once and read by all extractors."""
    extractors = list(extractors)
    parts: dict[Space, list[Tensor]] = {extractor.space: [] for extractor in extractors}
    for image_NCHW in batches:
        for extractor in extractors:
            parts[extractor.space].append(extractor(image_NCHW))
    return {space: torch.cat(tensors) for space, tensors in parts.items()}


def _pixels(image_NCHW: Tensor) -> Tensor:
    """uint8 -> [N, C·h·w] in [0, 1]."""
    return (area(image_NCHW.float(), PIXELS_SIDE) / 255).flatten(1)


def _network(
    space: FeatureSpace, network: nn.Module, side: int, scale: Callable[[Tensor], Tensor], device: torch.device
) -> Extractor:
    """The extractor of a network that takes `side`² images, `scale`d from RGB in [0, 255]."""
    network = network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(image_NCHW: Tensor) -> Tensor:
        scaled_NCHW = scale(bicubic(to_rgb(image_NCHW), side))
        return network(scaled_NCHW.contiguous(memory_format=torch.channels_last))

    return Extractor(space, f"bicubic antialias to {side}", "1", features, device)


def _dinov2(device: torch.device, places: Places) -> Extractor:
    _, path = locate("dinov2", places.weights_dir)
    state = torch.load(path, map_location="cpu", weights_only=True)
    digest = sha256_of(path)[:12]
    extractor = _network("dinov2", dinov2.DinoV2(state), dinov2.SIDE, lambda rgb: rgb / 255, device)
    return replace(extractor, version=digest, note=f"weights {path.name}, sha256 {digest}...")


def _with_head(extractor: Extractor, head: nn.Linear) -> Extractor:
    return replace(extractor, head=copy.deepcopy(head).double().to(extractor.device).requires_grad_(False))


def _classifier(device: torch.device, places: Places, labelled: classifier.Labelled | None) -> Extractor:
    if labelled is None:
        raise SpecError(
            "evaluation.features: classifier is trained on the labels of the data, and this data has none",
            hint="use efficientnet_lite0, random_conv or pixels",
        )
    trained = classifier.open_classifier(labelled, places.cache_dir, device)
    network = trained.network.to(device)
    note = f"classifier of {trained.count} classes, right on {trained.accuracy:.1%} of held-out images"
    resize = f"area to at most {classifier.SIDE}"
    version = f"{classifier.VERSION}-{labelled.digest}"
    plain = Extractor("classifier", resize, version, lambda x: network(classifier.prepare(x)), device, note=note)
    return _with_head(plain, network.head)
