"""Given images as a trained generator would draw them: the w, or one w for each layer (W+), whose picture is nearest.

    out/latents.safetensors       w [N, L·K, D], as `Synthesis` takes it
    out/reconstructions/00000.png one an image
    out/projection.png            targets, and below each its reconstruction
    out/projection.json           settings and the errors of every image

The noise inputs are left out, so that a reconstruction is a function of its latents alone.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from jobs.data import Roots, open_dataset
from jobs.errors import SpecError
from jobs.evaluation import perceptual
from jobs.evaluation.pictures import for_lpips, to_rgb
from jobs.evaluation.reconstruction import l1, psnr
from jobs.evaluation.weights import missing_weights
from jobs.networks.generator import StyleGenerator
from jobs.report import pictures
from jobs.sampling import load_recipe
from jobs.spec import Job
from jobs.spec.data import SHIPPED_PREFIX, ImageFolder, ImageZip
from jobs.spec.evaluation import Evaluation
from jobs.training.device import choose_device
from jobs.training.seeds import generator

CHUNK = 16
"""Images projected at a time; their losses are added, so none depends on the others."""
CANDIDATES = 256
"""Random latents, of which the nearest to each image is where its search begins."""
WARMUP, COOLDOWN = 0.05, 0.25
"""Shares of the steps in which the learning rate rises, and falls again."""

Images = NDArray[np.uint8]
Distance = Callable[[Tensor, Tensor], Tensor]
"""Images [N, C, H, W] in [-1, 1], twice -> [N]."""


@dataclass(frozen=True)
class Search:
    """How latents are looked for."""

    space: Literal["w", "w+"] = "w"
    loss: Literal["pixels", "lpips"] = "pixels"
    steps: int = 500
    learning_rate: float = 0.05
    seed: int = 0
    most_images: int | None = None


@dataclass(frozen=True)
class Places:
    """Where things are kept and found."""

    out: Path
    cache_dir: Path
    weights_dir: Path | None = None


def project(
    checkpoint: Path, images: Path, search: Search, places: Places, seen: Callable[[int, int], None]
) -> list[dict[str, float]]:
    """Projects every image of a folder or zip; writes what the module says; returns the errors of each image.

    `seen` hears (image and step, all of them). Raises DataError for a checkpoint or images that cannot be read,
    SpecError where the generator has no styles or a loss lacks its weights.
    """
    job, recipe = load_recipe(checkpoint)
    network = recipe.generator_ema
    if not isinstance(network, StyleGenerator):
        raise SpecError(
            f"CHECKPOINT: {job.recipe.kind} draws without styles, so there is no w to look for",
            hint="project works on generators with a mapping and a synthesis network, as stylegan2 trains them",
        )
    distance = _distance(search, places)
    target_NCHW = _read(images, job, places, search.most_images)
    w, drawn = [], []
    total = len(target_NCHW) * search.steps
    for start in range(0, len(target_NCHW), CHUNK):
        chunk = target_NCHW[start : start + CHUNK]

        def step_seen(step: int, start: int = start, count: int = len(chunk)) -> None:
            seen(start * search.steps + (step + 1) * count, total)

        found = search_w(network, signed(chunk), search, distance, step_seen)
        w.append(found)
        drawn.append(pictures.from_signed(_synthesised(network, found).cpu().numpy()))
    return _write(places.out, torch.cat(w), np.concatenate(drawn), target_NCHW, search, distance)


def search_w(
    network: StyleGenerator, target_NCHW: Tensor, search: Search, distance: Distance, seen: Callable[[int], None]
) -> Tensor:
    """w [N, L·K, D] whose pictures are near `target_NCHW`: Adam from the nearest of random latents on.

    In w, the same K vectors reach every layer; in W+, each layer has its own.
    """
    device = next(network.buffers()).device
    target = target_NCHW.to(device)
    w_NKD = _nearest(network, target, distance, search.seed)
    free = (network.to_every_layer(w_NKD) if search.space == "w+" else w_NKD).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([free], lr=search.learning_rate, betas=(0.9, 0.999))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / search.steps))
    for step in range(search.steps):
        styles = free if search.space == "w+" else network.to_every_layer(free)
        loss = distance(network.synthesis(styles, noise_scale=0.0), target).sum()
        (free.grad,) = torch.autograd.grad(loss, free)
        optimizer.step()
        schedule.step()
        seen(step)
    found = free if search.space == "w+" else network.to_every_layer(free)
    return found.detach()


def _rate(share: float) -> float:
    """Up in a line, down by a cosine, over the steps from 0 to 1."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - share) / COOLDOWN))
    return min(down, (share + 1e-3) / WARMUP, 1.0)


@torch.no_grad()
def _nearest(network: StyleGenerator, target: Tensor, distance: Distance, seed: int) -> Tensor:
    """Of the mean w and of random ones, the one whose picture is nearest to each target: [N, K, D]."""
    if network.mapping.classes:
        raise SpecError(
            "CHECKPOINT: its mapping network also listens to a class label, which images alone do not tell",
            hint="project works on unconditional generators",
        )
    source = generator(torch.device("cpu"), "project", seed)
    w = network.mapping(network.latents(CANDIDATES, torch.device("cpu"), source).to(target.device))
    w = torch.cat([network.mapping.w_average.expand_as(w[:1]), w])
    best_N = torch.full([len(target)], torch.inf, device=target.device)
    found = w[:1].expand(len(target), -1, -1).clone()
    for start in range(0, len(w), CHUNK):
        drawn = _synthesised(network, network.to_every_layer(w[start : start + CHUNK]))
        for candidate, image in zip(w[start:], drawn, strict=False):
            near_N = distance(image.expand_as(target), target)
            closer = near_N < best_N
            best_N = torch.where(closer, near_N, best_N)
            found = torch.where(closer[:, None, None], candidate, found)
    return found


@torch.no_grad()
def _synthesised(network: StyleGenerator, styles_NLD: Tensor) -> Tensor:
    image: Tensor = network.synthesis(styles_NLD, noise_scale=0.0)
    return image


def _distance(search: Search, places: Places) -> Distance:
    match search.loss:
        case "pixels":
            return lambda one, other: (one - other).square().mean(dim=(1, 2, 3))
        case "lpips":
            section = Evaluation(features=("pixels",), metrics=("lpips_diversity",))
            if absent := missing_weights(section, places.weights_dir):
                raise SpecError("\n".join(absent), hint="or use --loss pixels")
            network = perceptual.load(section.lpips, places.weights_dir, places.cache_dir).to(choose_device("auto"))
            return lambda one, other: network(*(for_lpips(to_rgb((x + 1) * 127.5)) for x in (one, other)))


def _read(path: Path, job: Job, places: Places, most: int | None) -> Images:
    """Images as the generator's data was read."""
    data = job.recipe.data
    kind = ImageZip if path.suffix == ".zip" or str(path).startswith(SHIPPED_PREFIX) else ImageFolder
    section = kind(
        path=str(path),
        resolution=data.resolution,
        channels=data.channels,
        fit=getattr(data, "fit", "crop"),
        max_images=most,
    )
    dataset = open_dataset(section, cache_dir=places.cache_dir / "data", roots=Roots(Path()))
    return np.asarray(dataset.images_NCHW)


def signed(image_NCHW: Images) -> Tensor:
    """uint8 -> [-1, 1]."""
    return torch.from_numpy(np.array(image_NCHW)).float() / 127.5 - 1


def _write(
    out: Path, w_NLD: Tensor, drawn: Images, target: Images, search: Search, distance: Distance
) -> list[dict[str, float]]:
    """Latents, pictures, errors."""
    (out / "reconstructions").mkdir(parents=True, exist_ok=True)
    save_file({"w": w_NLD.cpu().contiguous()}, out / "latents.safetensors", metadata={"space": search.space})
    for index, image in enumerate(drawn):
        path = out / "reconstructions" / f"{index:05d}.png"
        pictures.write_png(path, pictures.grid(image[None], scale=1))
    errors = _errors(drawn, target, search, distance)
    pictures.write_png(out / "projection.png", pictures.grid(_stacked(target, drawn), columns=min(8, len(target))))
    said: dict[str, Any] = {"search": asdict(search), "errors": errors}
    (out / "projection.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return errors


def _errors(drawn: Images, target: Images, search: Search, distance: Distance) -> list[dict[str, float]]:
    """Of the pictures as they were written."""
    one, other = signed(drawn), signed(target)
    with torch.no_grad():
        measured = {
            search.loss: distance(one.to(choose_device("auto")), other.to(choose_device("auto"))).cpu(),
            "l1": l1((one + 1) / 2, (other + 1) / 2),
            "psnr": psnr((one + 1) / 2, (other + 1) / 2),
        }
    return [{name: float(value_N[index]) for name, value_N in measured.items()} for index in range(len(drawn))]


def _stacked(target: Images, drawn: Images, columns: int = 8) -> Images:
    """A row of targets, a row of their reconstructions, and so on; blank where a row is not full."""
    width = min(columns, len(target))
    rows = []
    for start in range(0, len(target), width):
        for images in (target, drawn):
            row = images[start : start + width]
            rows.append(np.concatenate([row, np.zeros((width - len(row), *row.shape[1:]), np.uint8)]))
    return np.concatenate(rows)
