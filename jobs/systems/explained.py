"""The classifier that a StylEx explains: trained from the labels, or read from a file, and measured either way."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jobs.data import Dataset, balanced_turns
from jobs.errors import DataError, Diverged, SpecError
from jobs.evaluation.cache import keep
from jobs.evaluation.classifier import Quality, Read, fit, quality, split
from jobs.networks.classifier import ImageClassifier
from jobs.spec.stylex import Classifier
from jobs.systems.system import Beforehand

VERSION = 1


def explained_classifier(section: Classifier, given: Beforehand) -> tuple[ImageClassifier, Quality]:
    """The frozen classifier, and how good it is on the tenth of the data that was kept from its training.

    Raises SpecError for fewer than two classes, DataError for a file that does not fit, Diverged where it is not as
    good as the section asks.
    """
    classes = len(given.dataset.class_names)
    if classes < 2:
        raise SpecError("recipe.data: a classifier of one class has no mind to change", hint="two classes are needed")
    if section.path is None:
        network = _trained(section, given, classes)
    else:
        network = _loaded(section, given.roots.locate(section.path, "recipe.classifier.path"), classes)
    network = network.to(given.device).eval().requires_grad_(False)
    found = measured(network, given.dataset)
    if not found.class_accuracy >= section.least_accuracy:
        raise Diverged(
            f"recipe.classifier: right on {found.class_accuracy:.1%} of {found.images} images that it has not seen "
            f"(mean over classes), below least_accuracy {section.least_accuracy:.1%}: what it looks at is not worth "
            "explaining",
            hint="raise classifier.images, choose another architecture or input_side, balance the data, or lower "
            "classifier.least_accuracy",
        )
    return network, found


def sentence(found: Quality) -> str:
    """For a person."""
    return (
        f"the classifier is right on {found.accuracy:.1%} of {found.images} images that it has not seen "
        f"({found.class_accuracy:.1%} as the mean over classes); its calibration error is {found.calibration_error:.1%}"
    )


def _trained(section: Classifier, given: Beforehand, classes: int) -> ImageClassifier:
    """From the cache, or trained now; a function of data and section alone on a processor."""
    settings = section.model_dump(mode="json", exclude={"path", "least_accuracy"})
    key = hashlib.sha256(json.dumps([given.dataset.digest, settings, VERSION]).encode()).hexdigest()[:32]
    path = given.cache_dir / "classifiers" / f"{key}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ImageClassifier(section, classes)
    if path.is_file() and _read_into(network, path):
        return network
    given.say(f"training the classifier that is explained on {section.images:,} images")
    network = network.to(given.device)
    seen, _ = split(len(given.dataset.images_NCHW))
    turns = _equal_turns(given.dataset, seen) if getattr(given.job.recipe.data, "balance", False) else seen
    labels_N = _labels(given.dataset)
    fit(network, _reader(network, given.dataset), labels_N, turns, images=section.images,
        learning_rate=section.learning_rate)  # fmt: skip
    keep(path, lambda aside: save_file(_state(network), aside))
    return network


def _loaded(section: Classifier, path: Path, classes: int) -> ImageClassifier:
    network = ImageClassifier(section, classes)
    if not _read_into(network, path):
        raise DataError(
            f"recipe.classifier.path: {path.name} does not hold a {section.architecture} of {classes} classes",
            hint="a safetensors file whose tensors are named as torchvision names them, or as gankiln wrote them",
        )
    return network


def _read_into(network: ImageClassifier, path: Path) -> bool:
    """Whether the file at `path` holds these weights; they are loaded then."""
    try:
        with safe_open(path, "pt") as file:
            state = {name.removeprefix("network."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network.network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def measured(network: nn.Module, dataset: Dataset) -> Quality:
    """How good `network` is on the tenth of the data that was kept from training."""
    _, unseen = split(len(dataset.images_NCHW))
    return quality(network, _reader(network, dataset), _labels(dataset), unseen)


def _reader(network: nn.Module, dataset: Dataset) -> Read:
    device = next(network.parameters()).device

    def read(positions: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(dataset.images_NCHW[positions])).to(device).float() / 127.5 - 1

    return read


def _labels(dataset: Dataset) -> np.ndarray:
    assert dataset.labels_N is not None, "the spec asks for labels"
    return np.asarray(dataset.labels_N)


def _equal_turns(dataset: Dataset, seen: np.ndarray) -> np.ndarray:
    return seen[balanced_turns(_labels(dataset)[seen])]


def _state(network: ImageClassifier) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
