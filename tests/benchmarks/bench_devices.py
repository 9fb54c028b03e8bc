"""What another device brings: python -m tests.benchmarks.bench_devices [--devices 1 2 4 --images 3200 --batch 32]

Images a second of whole runs (StyleGAN2, Fashion-MNIST, 32x32), the same batch shared by so many devices, and the ratio
to one. On a CPU the processes share its cores: there nothing is to be won but what one process leaves idle.
"""

import argparse
import tempfile
from pathlib import Path

import torch
import yaml

from jobs.data import Roots
from jobs.report import Report
from jobs.run import Surroundings, run
from jobs.spec import Loaded, load
from tests.benchmarks.rows import say

DEMO = Path("jobs/examples/fashion-mnist.yaml")


def job(devices: int, batch: int, images: int) -> Loaded:
    """The demo, training and nothing else."""
    spec = yaml.safe_load(DEMO.read_text())
    spec["training"] |= {
        "images": images, "batch": batch, "devices": devices, "sample_images": images, "checkpoint_images": images,
        "progress_seconds": 1.0,
    }  # fmt: skip
    spec["evaluation"] = {"samples": 32, "features": ["pixels"], "metrics": ["fd"], "sanity": False, "untrained": False}
    spec["diagnosis"] = {"enabled": False, "wiring": False}
    return load(yaml.safe_dump(spec), "the demo")


def main() -> None:
    gpus = torch.cuda.device_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=sorted({1, gpus or 2}))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=100_000 if gpus else 1920)
    asked = parser.parse_args()
    first = 0.0
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        for devices in asked.devices:
            around = Surroundings(out=here / str(devices), cache_dir=here / "cache", roots=Roots(DEMO.parent))
            run(job(devices, asked.batch, asked.images), around)
            report = Report.load(here / str(devices) / "report.json")
            speed = report.images_per_second
            assert speed is not None
            first = first or speed
            say(
                f"{report.device:40} batch {asked.batch}: {speed:8.1f} images/s, x{speed / first:.2f} of "
                f"{asked.devices[0]}",
                devices=devices, batch=asked.batch, images_per_second=speed, ratio=speed / first,
            )  # fmt: skip


if __name__ == "__main__":
    main()
