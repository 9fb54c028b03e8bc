"""A small classifier trained on the job's own labels: a feature space that knows what matters in these images.

Networks that saw photographs may be blind to line drawings or clothes at 28 x 28; this one has been taught them. It is
trained once, cached by the content of the data, and says how often it is right about images it has not seen.
"""

import hashlib
import json
from dataclasses import dataclass
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

VERSION = 2
SIDE = 64
CHANNELS = (32, 64, 128, 128)
BATCH = 128
LEAST_IMAGES_SHOWN = 30_000
MOST_IMAGES_SHOWN = 200_000
HELD_OUT = 0.1
LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class Labelled:
    """Images with one class each: [N, C, H, W] uint8 and integers [N] or one-hot rows [N, L]; named by `digest`."""

    image_NCHW: np.ndarray
    labels_N: np.ndarray
    digest: str


class Classifier(nn.Module):
    """[N, 3, H, W] in [-1, 1] -> features [N, 128]; `head` makes them logits."""

    def __init__(self, count: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels_in = 3
        for channels in CHANNELS:
            convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
            stages += [convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            channels_in = channels
        self.stages = nn.Sequential(*stages[:-1])
        self.head = nn.Linear(channels_in, count)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.stages(x_NCHW).mean((2, 3))


@dataclass(frozen=True)
class Trained:
    """A classifier and the share of held-out images that it classifies rightly."""

    network: Classifier
    accuracy: float
    count: int


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
        return stored
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
    rng = np.random.RandomState(0)
    order = rng.permutation(len(image_NCHW))
    held_out = max(1, round(HELD_OUT * len(order)))
    unseen, seen = order[:held_out], order[held_out:]
    steps = int(np.clip(6 * len(seen), LEAST_IMAGES_SHOWN, MOST_IMAGES_SHOWN)) // BATCH
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Classifier(count).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    network.train()
    for _ in range(steps):
        chosen = seen[rng.randint(0, len(seen), BATCH)]
        logits_NC = network.head(network(prepare(_read_images(image_NCHW, chosen, device))))
        loss = F.cross_entropy(logits_NC, torch.from_numpy(class_N[chosen]).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    return Trained(network, _accuracy(network, image_NCHW, class_N, unseen), count)


@torch.inference_mode()
def _accuracy(network: Classifier, image_NCHW: np.ndarray, class_N: np.ndarray, positions: np.ndarray) -> float:
    device = network.head.weight.device
    right = 0
    for start in range(0, len(positions), BATCH):
        chosen = positions[start : start + BATCH]
        logits_NC = network.head(network(prepare(_read_images(image_NCHW, chosen, device))))
        right += int((logits_NC.argmax(1).cpu() == torch.from_numpy(class_N[chosen])).sum())
    return right / len(positions)


def _read_images(image_NCHW: np.ndarray, positions: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image_NCHW[positions])).to(device)


def _read(path: Path, count: int) -> Trained | None:
    """A classifier stored by `_store`, or None if there is none that can be read."""
    try:
        with safe_open(path, "pt") as file:
            accuracy = float(file.metadata()["accuracy"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 a safe_open is no mapping
        network = Classifier(count)
        network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError):
        return None
    return Trained(network.eval(), accuracy, count)


def _store(trained: Trained, path: Path) -> None:
    state = {name: tensor.cpu().contiguous() for name, tensor in trained.network.state_dict().items()}
    save_file(state, path, metadata={"accuracy": repr(trained.accuracy)})
