"""A small classifier trained on the job's own labels: a feature space that knows what matters in these images.

Networks that saw photographs may be blind to line drawings or clothes at 28 x 28; this one has been taught them. It is
trained once, cached by the content of the data, and says how often it is right about images it has not seen.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jobs.errors import SpecError
from jobs.evaluation.cache import keep
from jobs.evaluation.modes import classes
from jobs.evaluation.pictures import area, to_rgb
from jobs.networks.classifier import SmallClassifier

VERSION = 2
SIDE = 64
BATCH = 128
LEAST_IMAGES_SHOWN = 30_000
MOST_IMAGES_SHOWN = 200_000
HELD_OUT = 0.1
LEARNING_RATE = 2e-3
CALIBRATION_BINS = 15

Read = Callable[[np.ndarray], Tensor]
"""Positions -> what a network takes, on its device."""


@dataclass(frozen=True)
class Labelled:
    """Images with one class each: [N, C, H, W] uint8 and integers [N] or one-hot rows [N, L]; named by `digest`."""

    image_NCHW: np.ndarray
    labels_N: np.ndarray
    digest: str


@dataclass(frozen=True)
class Trained:
    """A classifier and the share of held-out images that it classifies rightly."""

    network: SmallClassifier
    accuracy: float
    count: int


@dataclass(frozen=True)
class Quality:
    """How good a classifier is on images that it has not seen."""

    accuracy: float
    """Share of them that it is right about."""
    class_accuracy: float
    """The same of every class, mean over classes: guessing the most frequent one gets 1 / classes."""
    calibration_error: float
    """Σ over bins of share · |accuracy - confidence| (Guo et al. 2017, Equation 3; 15 bins)."""
    images: int


def open_classifier(labelled: Labelled, cache_dir: Path, device: torch.device) -> Trained:
    """The classifier of these images, from the cache or trained now. Raises SpecError for fewer than two classes."""
    names, class_N = np.unique(classes(np.asarray(labelled.labels_N)), return_inverse=True)
    if len(names) < 2:
        raise SpecError(
            "evaluation.features: classifier is trained on labels; the data has one class", hint="use another space"
        )
    key = hashlib.sha256(json.dumps([labelled.digest, VERSION, len(names)]).encode()).hexdigest()[:32]
    path = cache_dir / f"classifier-{key}.safetensors"
    if (stored := _read(path, len(names))) is not None:
        return replace(stored, network=stored.network.to(device))
    trained = train(labelled.image_NCHW, class_N, len(names), device)
    keep(path, lambda aside: _store(trained, aside))
    return trained


def prepare(image_NCHW: Tensor) -> Tensor:
    """uint8 -> what the network takes: RGB in [-1, 1], each side averaged down to at most `SIDE`."""
    scaled_NCHW = area(to_rgb(image_NCHW), SIDE) / 127.5 - 1
    return scaled_NCHW.contiguous(memory_format=torch.channels_last)


def train(image_NCHW: np.ndarray, class_N: np.ndarray, count: int, device: torch.device) -> Trained:
    """Trains on nine tenths, measures on the rest; a function of its arguments alone on a processor.

    Shows six epochs of images, but at least 30,000 and at most 200,000: a minute for 28 x 28 on two cores.
    """
    seen, unseen = split(len(image_NCHW))
    images = int(np.clip(6 * len(seen), LEAST_IMAGES_SHOWN, MOST_IMAGES_SHOWN))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SmallClassifier(count).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    whole = nn.Sequential(network, network.head)

    def read(positions: np.ndarray) -> Tensor:
        return prepare(torch.from_numpy(np.ascontiguousarray(image_NCHW[positions])).to(device))

    fit(whole, read, class_N, seen, images=images, learning_rate=LEARNING_RATE)
    return Trained(network, quality(whole, read, class_N, unseen).accuracy, count)


def split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to learn from, and a tenth kept aside."""
    order = np.random.RandomState(0).permutation(count)
    held_out = max(1, round(HELD_OUT * count))
    return order[held_out:], order[:held_out]


def fit(
    network: nn.Module, read: Read, class_N: np.ndarray, seen: np.ndarray, *, images: int, learning_rate: float
) -> None:
    """Trains `network` (inputs -> logits) on the images at `seen`, drawn with replacement; leaves it in eval mode."""
    rng = np.random.RandomState(1)
    steps = max(images // BATCH, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    network.train()
    for _ in range(steps):
        chosen = seen[rng.randint(0, len(seen), BATCH)]
        logits_NC = network(read(chosen))
        loss = F.cross_entropy(logits_NC, torch.from_numpy(class_N[chosen]).to(logits_NC.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()


@torch.inference_mode()
def quality(network: nn.Module, read: Read, class_N: np.ndarray, unseen: np.ndarray) -> Quality:
    """Accuracy and calibration of `network` on the images at `unseen`."""
    logits = [network(read(unseen[start : start + BATCH])).cpu() for start in range(0, len(unseen), BATCH)]
    confidence_N, said_N = (x.numpy() for x in torch.cat(logits).softmax(1).max(1))
    right_N = said_N == class_N[unseen]
    bin_N = np.minimum((confidence_N * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [
        (bin_N == index).mean() * abs(right_N[bin_N == index].mean() - confidence_N[bin_N == index].mean())
        for index in np.unique(bin_N)
    ]
    by_class = [right_N[class_N[unseen] == label].mean() for label in np.unique(class_N[unseen])]
    return Quality(float(right_N.mean()), float(np.mean(by_class)), float(sum(gaps)), len(unseen))


def _read(path: Path, count: int) -> Trained | None:
    """A classifier stored by `_store`, or None if there is none that can be read."""
    try:
        with safe_open(path, "pt") as file:
            accuracy = float(file.metadata()["accuracy"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 a safe_open is no mapping
        network = SmallClassifier(count)
        network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError):
        return None
    return Trained(network.eval(), accuracy, count)


def _store(trained: Trained, path: Path) -> None:
    state = {name: tensor.cpu().contiguous() for name, tensor in trained.network.state_dict().items()}
    save_file(state, path, metadata={"accuracy": repr(trained.accuracy)})
