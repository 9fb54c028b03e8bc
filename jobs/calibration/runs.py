"""The healthy runs: small networks that learn small images within minutes on a processor."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image

from jobs.data import Roots
from jobs.errors import Interrupted
from jobs.events import read_events
from jobs.run import Build, Surroundings, run
from jobs.spec import Loaded, load

SetName = Literal["modegrid", "fashion", "ellipses"]
SETS: tuple[SetName, ...] = ("modegrid", "fashion", "ellipses")
SEEDS = (0, 1, 2)
IMAGES, BATCH, CHECK_IMAGES, CHECKPOINT_IMAGES = 8_000, 16, 800, 1_600
ELLIPSES = 2_000


@dataclass(frozen=True)
class Place:
    """Where runs of the calibration live."""

    work: Path

    def out(self, name: str) -> Path:
        """A run's directory."""
        return self.work / name

    def surroundings(self, name: str, stop_images: int | None = None) -> Surroundings:
        """A run here; it is asked to stop at `stop_images`."""
        reached = [0]

        def watch(event: dict[str, Any]) -> None:
            reached[0] = max(reached[0], event.get("images", 0))

        return Surroundings(
            out=self.out(name),
            cache_dir=self.work / "cache",
            roots=Roots(self.work),
            should_stop=lambda: stop_images is not None and reached[0] >= stop_images,
            watch=watch,
        )

    def run(self, loaded: Loaded, name: str, build: Build | None = None, stop_images: int | None = None) -> None:
        """Runs, or goes on with, `loaded`; comes back at its end or at `stop_images`."""
        around = self.surroundings(name, stop_images)
        try:
            run(loaded, around, build) if build is not None else run(loaded, around)
        except Interrupted:
            if stop_images is None:
                raise

    def statistics(self, name: str) -> list[tuple[int, dict[str, float]]]:
        """What the detectors of a run measured, by images."""
        return [
            (event["images"], dict(event["statistics"]))
            for event in read_events(self.out(name) / "events.jsonl")
            if event["event"] == "statistics"
        ]

    def verdicts(self, name: str) -> list[dict[str, Any]]:
        """Everything that the detectors of a run said, in order."""
        events = read_events(self.out(name) / "events.jsonl")
        return [event for event in events if event["event"] == "verdict"]


def healthy_spec(data: SetName, seed: int, place: Place) -> Loaded:
    """One healthy run."""
    job = {
        "name": f"healthy-{data}-{seed}",
        "seed": seed,
        "recipe": {
            "kind": "stylegan2",
            "data": _data(data, place),
            "preset": "auto",
            "generator": {"channels_base": 256, "channels_max": 32, "latent": 32, "style": 32},
            "r1": {"gamma": 1.0, "interval": 8},
            "path_length": {"weight": 0},
        },
        "training": {
            "images": IMAGES,
            "batch": BATCH,
            "precision": "fp32",
            "device": "cpu",
            "sample_images": CHECK_IMAGES,
            "checkpoint_images": CHECKPOINT_IMAGES,
            "checkpoints_kept": IMAGES // CHECKPOINT_IMAGES,
        },
        "evaluation": {
            "samples": 500,
            "features": ["random_conv"],
            "metrics": ["fd", "precision", "recall"],
            "every_images": 2 * CHECKPOINT_IMAGES,
            "intervals": False,
            "sanity": False,
            "untrained": False,
        },
    }
    return load(yaml.safe_dump(job), f"healthy-{data}-{seed}")


def _data(name: SetName, place: Place) -> dict[str, Any]:
    match name:
        case "modegrid":
            return {"kind": "modegrid", "resolution": 32, "images": 4000, "shapes": 4, "hues": 8, "positions": 1}
        case "fashion":
            path = "shipped:fashion-mnist-5000"
            return {"kind": "zip", "path": path, "resolution": 32, "channels": "grey", "fit": "pad"}
        case "ellipses":
            return {"kind": "folder", "path": str(make_ellipses(place.work / "ellipses")), "resolution": 32}


def make_ellipses(folder: Path, count: int = ELLIPSES) -> Path:
    """A folder of generated pictures without black or repetition: a soft coloured ellipse on a coloured gradient."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob("*.png"))) == count:
        return folder
    rng = np.random.RandomState(0)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    for number in range(count):
        ground, front = rng.uniform(0.1, 0.9, (2, 3))
        slope = rng.uniform(-0.3, 0.3, (2, 3))
        (centre_x, centre_y), (width, height) = rng.uniform(-0.4, 0.4, 2), rng.uniform(0.25, 0.6, 2)
        inside = 1 / (1 + np.exp(12 * (((x - centre_x) / width) ** 2 + ((y - centre_y) / height) ** 2 - 1)))
        picture = ground + slope[0] * x[..., None] + slope[1] * y[..., None]
        picture = picture + (front - picture) * inside[..., None] + rng.normal(0, 0.02, picture.shape)
        Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8)).save(folder / f"{number:05d}.png")
    return folder


def run_healthy(place: Place, sets: Sequence[SetName], seeds: Sequence[int]) -> list[str]:
    """Trains what is not trained yet; returns the runs' names."""
    names = []
    for data in sets:
        for seed in seeds:
            name = f"healthy-{data}-{seed}"
            place.run(healthy_spec(data, seed, place), name)
            names.append(name)
    return names
