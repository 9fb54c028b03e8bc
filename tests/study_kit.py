"""A stand-in for training that keeps the contract of a run directory, in a millisecond: for tests of studies."""

import hashlib
import json
from pathlib import Path

import numpy as np
import yaml

from jobs.errors import Interrupted
from jobs.report.model import MetricRow, Report
from jobs.spec import LoadedStudy, load_any
from jobs.spec.variants import fingerprint

TINY = yaml.safe_load((Path(__file__).parent / "specs/stylegan2.yaml").read_text())
EVALUATIONS = 4


def study(changes=(), **section) -> LoadedStudy:
    """The tiny spec as a study; `changes` are (section, key, value) of the spec itself."""
    spec = {**TINY, "evaluation": {**TINY["evaluation"], "every_images": TINY["training"]["images"] // EVALUATIONS}}
    for name, key, value in changes:
        spec[name] = {**spec[name], key: value}
    loaded = load_any(yaml.safe_dump({**spec, "study": section}, sort_keys=False), "study.yaml")
    assert isinstance(loaded, LoadedStudy)
    return loaded


class StandIn:
    """Trains nothing. `quality(job)` is the true value (lower is better); seeds and runs add noise of their own."""

    def __init__(self, quality, *, noise=0.1, seed_noise=1.0, repeat=0):
        self.quality, self.noise, self.seed_noise, self.repeat = quality, noise, seed_noise, repeat
        self.trained = []
        self.stop_after = None

    def value(self, job):
        """Paired: what a seed does to a run is the same for all variants, up to a run's own noise."""
        of_seed = np.random.default_rng([self.repeat, job.seed]).normal(0, self.seed_noise)
        own = int(hashlib.sha256(f"{self.repeat} {fingerprint(job)}".encode()).hexdigest()[:8], 16)
        return 10 + self.quality(job) + of_seed + np.random.default_rng(own).normal(0, self.noise)

    def __call__(self, run, folder, watch, given_up):
        if self.stop_after is not None and len(self.trained) >= self.stop_after:
            raise Interrupted
        self.trained.append((run.variant, run.seed))
        job, events = run.loaded.job, []
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
        end, total = self.value(job), job.training.images
        images, rows = 0, [row(end * 2, 0, "untrained")]
        for step in range(1, EVALUATIONS + 1):
            images = total * step // EVALUATIONS
            rows.append(row(end * (2 - step / EVALUATIONS), images))
            said = [
                {"event": "progress", "images": images, "losses": {"g": 1 / step, "d": 0.5}, "time": float(step)},
                {"event": "evaluation", "images": images, "rows": [rows[-1].model_dump()], "time": float(step)},
                {"event": "samples", "images": images, "path": picture(folder, images, job), "time": float(step)},
            ]
            events += said
            (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
            for event in said:
                watch(event)
            if given_up():
                break
        outcome = "finished" if images == total else "interrupted"
        write_report(folder, job, rows, images, outcome)
        if outcome == "interrupted":
            raise Interrupted


def write_report(folder, job, rows, images, outcome="finished"):
    grids = [{"images": int(path.stem), "path": f"samples/{path.name}"} for path in sorted(folder.glob("samples/*"))]
    Report(
        name=job.name, recipe=job.recipe.kind, seed=job.seed, images=images, images_planned=job.training.images,
        seconds=images / 10, images_per_second=10.0, device="stand-in", outcome=outcome, metrics=tuple(rows),
        verdicts=({"detector": "collapse", "verdict": "healthy", "images": images},), samples=tuple(grids),
        versions={"gankiln": "0.1.0"}, written=0.0,
    ).write_json(folder / "report.json")  # fmt: skip


def row(value, images, label=""):
    return MetricRow(metric="fd", features="random_conv", value=float(value), images=images, samples=32, label=label)


def picture(folder, images, job):
    """A grid of 4 x 2 squares, their colour by seed and gamma."""
    from jobs.report import pictures

    path = folder / f"samples/{images:09d}.png"
    path.parent.mkdir(exist_ok=True)
    draws = np.random.default_rng(job.seed)
    image_NCHW = draws.integers(0, 256, (8, 3, 1, 1)).astype(np.uint8) * np.ones((1, 1, 16, 16), np.uint8)
    image_NCHW[:, :, : int(job.recipe.r1.gamma) % 16] = images % 256
    pictures.write_png(path, pictures.grid(image_NCHW, 4))
    return f"samples/{path.name}"


def gamma_quality(job):
    """Best at gamma 10, on a logarithmic scale."""
    return float(np.log10(max(job.recipe.r1.gamma, 1e-3) / 10) ** 2)


def width_quality(job):
    return 2.0 * (job.recipe.generator.channels_base < 128)
