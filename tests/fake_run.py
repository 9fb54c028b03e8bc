"""A run directory as a real run leaves it, made up: shapes that emerge from noise, 200 progress events, one resume."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jobs.report import Nearest, ReportFacts, pictures, write_nearest

IMAGES = 200_000
GRIDS = 21
RESUMED_AT = 90_000
SIZE = 32
EVALUATED = tuple(range(0, IMAGES + 1, 20_000))


@cache
def shape(seed: int, size: int = SIZE) -> np.ndarray:
    """One coloured shape on a dark ground, [3, size, size]."""
    draws = np.random.default_rng(seed)
    canvas = Image.new("RGB", (size * 4, size * 4), (14, 16, 22))
    pen = ImageDraw.Draw(canvas)
    colour = tuple(int(value) for value in draws.integers(60, 256, 3))
    x, y = draws.uniform(0.3, 0.7, 2) * size * 4
    r = draws.uniform(0.16, 0.28) * size * 4
    match int(draws.integers(4)):
        case 0:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        case 1:
            pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
        case 2:
            pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=colour)
        case _:
            pen.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=int(r / 2.2))
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX)).transpose(2, 0, 1)


@cache
def emerging(seed: int, share: float) -> np.ndarray:
    """The shape of `seed` after `share` of training: noise that turns into it."""
    draws = np.random.default_rng(seed + 10_000)
    noise = draws.normal(110, 60, (3, SIZE, SIZE))
    wobble = draws.normal(0, 22 * (1 - share), (3, SIZE, SIZE))
    blend = 1 / (1 + math.exp(-9 * (share - 0.33)))
    return (noise * (1 - blend) + shape(seed) * blend + wobble).clip(0, 255).astype(np.uint8)


def write_run(out: Path, *, until: int = IMAGES, spec_extra: str = "") -> Path:
    """events.jsonl, spec.yaml and samples/ in `out`, as they stand after `until` images."""
    (out / "samples").mkdir(parents=True, exist_ok=True)
    events: list[dict[str, Any]] = [{"event": "start", "time": 1_760_000_000.0, "images": 0, "attempt": 1}]
    events += [progress(images) for images in range(1_000, 98_000, 1_000)]
    events.append({"event": "start", "time": 1_760_009_000.0, "images": RESUMED_AT, "attempt": 2})
    events.append(
        {"event": "note", "time": 1_760_009_001.0, "message": "precision: fp32, because this CPU has no bf16 units"}
    )
    events += [progress(images, 1_760_007_000.0) for images in range(RESUMED_AT + 1_000, IMAGES + 1, 1_000)]
    for index in range(GRIDS):
        images = index * IMAGES // (GRIDS - 1)
        path = f"samples/{images:09d}.png"
        event = {"event": "samples", "time": 1_760_000_000.0 + images / 20, "images": images, "path": path}
        events.insert(next((i for i, e in enumerate(events) if e.get("images", 0) > images), len(events)), event)
        if images <= until:
            grid = np.stack([emerging(seed, index / (GRIDS - 1)) for seed in range(64)])
            pictures.write_png(out / path, pictures.grid(grid, 8))
    events = [event for event in events if event.get("images", 0) <= until]
    if until == IMAGES:
        events.append(
            {"event": "end", "time": 1_760_019_000.0, "images": IMAGES, "seconds": 9_800.0, "outcome": "finished"}
        )
    (out / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (out / "spec.yaml").write_text(SPEC + spec_extra)
    return out


def progress(images: int, epoch: float = 1_760_000_000.0) -> dict[str, Any]:
    """One progress event with losses as a GAN has them."""
    draws = np.random.default_rng(images)
    share = images / IMAGES
    return {
        "event": "progress",
        "time": epoch + images / 20,
        "images": images,
        "seconds": images / 20.4,
        "images_per_second": 20.4 + float(draws.normal(0, 0.7)),
        "losses": {
            "discriminator": 1.38 - 0.5 * share**0.4 + float(draws.normal(0, 0.08)),
            "generator": 0.7 + 1.1 * share**0.5 + float(draws.normal(0, 0.15)),
            "r1": float(np.exp(draws.normal(-3.5 + 2 * share, 0.5))),
            "path_length": float(np.exp(draws.normal(1.5 - 6 * share, 0.6))),
        },
        "statistics": {
            "logit.real": 0.8 + 0.6 * share + float(draws.normal(0, 0.1)),
            "logit.fake": -0.7 - 0.9 * share + float(draws.normal(0, 0.1)),
            "sign.real": 0.4 + 0.3 * share + float(draws.normal(0, 0.03)),
            "sign.fake": -0.5 - 0.2 * share + float(draws.normal(0, 0.03)),
            "gradient.generator": float(np.exp(draws.normal(-1.0, 0.3))),
            "gradient.discriminator": float(np.exp(draws.normal(0.2 + share, 0.3))),
            "path_length": 0.2 + 0.5 * share,
        },
        "waiting_ratio": 0.01 + 0.02 * float(draws.random()),
        "memory_bytes": 410_000_000 + images,
    }


def write_neighbours(out: Path) -> Nearest:
    """Six samples beside five training images each."""
    samples = np.stack([emerging(seed, 1.0) for seed in range(6)])
    neighbours = np.stack([np.stack([shape(seed + 64 * k) for k in range(5)]) for seed in range(6)])
    distances = 4.1 + np.arange(6)[:, None] * 0.31 + np.arange(5) * 0.93
    names = [[seed + 64 * k for k in range(5)] for seed in range(6)]
    return write_nearest(out, samples, neighbours, distances, features="pixels", names_NK=names, typical_distance=7.41)


def rows(until: int = IMAGES) -> list[dict[str, Any]]:
    """All metrics in all feature spaces at every evaluation, with untrained and sanity rows."""
    start = {"fd": 412.0, "kid": 0.41, "precision": 0.02, "recall": 0.0, "density": 0.01, "coverage": 0.03}
    end = {"fd": 38.4, "kid": 0.021, "precision": 0.71, "recall": 0.48, "density": 0.66, "coverage": 0.74}
    real = {"fd": 6.2, "kid": -0.0002, "precision": 0.86, "recall": 0.85, "density": 0.99, "coverage": 0.93}
    scale = {"pixels": 0.31, "random_conv": 0.07, "efficientnet_lite0": 1.0}
    made = []
    for features, factor in scale.items():
        for metric in start:
            size = factor if metric in ("fd", "kid") else 1.0
            common = {"metric": metric, "features": features, "samples": 2000, "real_samples": 5000, "seed": 0}
            for label, samples, worse in SANITY:
                value = (
                    real[metric] + (start[metric] - real[metric]) * worse
                    if metric not in ("precision", "recall") or features != "pixels"
                    else 0.66 * (1 - worse)
                )
                made.append(
                    {
                        **common,
                        "value": value * size,
                        "label": label,
                        "samples": samples,
                        "real_samples": 2500,
                        "images": 0,
                    }
                )
            for images in EVALUATED:
                if images > until:
                    continue
                share = (images / IMAGES) ** 0.35
                value = (
                    start[metric] * (end[metric] / start[metric]) ** share
                    if metric in ("fd", "kid")
                    else start[metric] + (end[metric] - start[metric]) * share
                ) * size
                made.append(
                    {
                        **common,
                        "value": value,
                        "images": images,
                        "label": "" if images else "untrained",
                        "interval_low": value * 0.95,
                        "interval_high": value * 1.06,
                        "interval_kind": "95 % bootstrap interval",
                        "resize": "bicubic 224",
                    }
                )
    return made


SANITY = (
    ("real against other real", 2500, 0.0),
    ("real against other real", 1250, 0.01),
    ("real against noise", 1250, 0.98),
    ("real against half of its modes", 1250, 0.2),
)

VERDICTS: list[dict[str, Any]] = [
    {
        "detector": "discriminator_overpowered",
        "verdict": "warning",
        "value": 0.93,
        "threshold": 0.9,
        "images": 200_000,
        "message": "The discriminator tells 93 % of real images from samples, and rising for 20,000 images.",
        "hint": "raise recipe.r1.gamma (now 0.0128) towards 1, or lower the discriminator's learning rate.",
        "evidence": {"sign of D(real)": 0.93, "sign of D(fake)": 0.91, "R1 gradient norm against its median": 11.4},
    },
    {
        "detector": "collapse",
        "verdict": "failure",
        "value": 0.19,
        "threshold": 0.25,
        "images": 40_000,
        "message": "Samples lie much closer together than real images.",
        "hint": "raise R1 gamma.",
        "evidence": None,
    },
    {
        "detector": "collapse",
        "verdict": "healthy",
        "value": 0.83,
        "threshold": 0.25,
        "images": 200_000,
        "message": "Samples lie as far apart as real images do.",
        "hint": None,
        "evidence": None,
    },
    {
        "detector": "style_share",
        "verdict": "failure",
        "value": 0.11,
        "threshold": 0.2,
        "images": 200_000,
        "message": "The noise inputs decide more of the picture than the style: 11 % of the variance comes from w.",
        "hint": "set recipe.generator.noise to off for the first third of training.",
        "evidence": "samples/000200000.png",
    },
    {
        "detector": "wiring",
        "verdict": "healthy",
        "value": 0,
        "threshold": 0,
        "images": 10,
        "message": "Every learnable number moved in the first ten steps.",
        "hint": None,
        "evidence": None,
    },
]

SPEC = """\
name: shapes-demo
question: Does a generator with 32 channels draw all shapes?
seed: 0
recipe:
  kind: stylegan2
  data: {kind: modegrid, resolution: 32, images: 20000}
  generator: {channels_base: 1024, channels_max: 32}
  r1: {gamma: 0.0128, interval: 16}
training:
  images: 200000
  batch: 16
  precision: fp32
"""


def facts(until: int = IMAGES, nearest: Nearest | None = None, **changes: Any) -> ReportFacts:
    """What such a run says of itself."""
    draws = np.random.default_rng(5)
    counts = draws.poisson(3.2, 576).tolist()
    values: dict[str, Any] = {
        "name": "shapes-demo",
        "recipe": "stylegan2",
        "question": "Does a generator with 32 channels draw all shapes, in all colours, at all places?",
        "seed": 0,
        "images": until,
        "images_planned": IMAGES,
        "seconds": until / 20.4,
        "images_per_second": 20.4,
        "device": "cpu: 2 cores of a test machine",
        "outcome": "finished" if until == IMAGES else "running",
        "metrics": rows(until),
        "verdicts": [verdict for verdict in VERDICTS if verdict["images"] <= until],
        "effective": {
            "learning_rate": {"G": 0.002, "D": 0.0018824, "lazy_correction_D": 0.941176},
            "betas": [0.0, 0.99],
            "r1_gamma": 0.0128,
            "path_length_weight": 2.0,
            "ema_beta": 0.99889,
        },
        "parameters": {"G": 1_204_211, "D": 1_118_530},
        "precision": {"value": "fp32", "why": "auto: this CPU does not multiply bf16 in hardware"},
        "accumulation": 1,
        "derived": [
            {"path": "recipe.r1.gamma", "value": 0.0128, "formula": "0.0002 · 32² / 16"},
            {"path": "recipe.ema.half_life_images", "value": 5000, "formula": "16 · 10000 / 32"},
            {"path": "training.sample_images", "value": 10_000, "formula": "images / 20, in whole batches"},
        ],
        "data": {
            "kind": "modegrid",
            "images": 20_000,
            "resolution": 32,
            "channels": 3,
            "classes": None,
            "skipped": [{"name": "cats/0042.jpg", "reason": "truncated: 1,204 of 8,800 bytes"}],
            "details": {"mirror": False, "digest": "fbfb629cbf70d8198fbd203228cd3722634770a4e08448e86b074789e5461643"},
        },
        "modes": {
            "covered": sum(count > 0 for count in counts),
            "total": 576,
            "samples": 2000,
            "covered_expected": 558.1,
            "precision": 0.939,
            "dropped": 0.0,
            "kl": 0.213,
            "reverse_kl": 0.341,
            "counts": counts,
            "axes": [8, 8, 9],
        },
        "nearest": nearest,
        "versions": {"gankiln": "0.1.0", "python": "3.11.2", "torch": "2.13.0+cpu", "numpy": "2.4.6"},
    }
    return ReportFacts.model_validate({**values, **changes})


def nasty_facts(text: str) -> ReportFacts:
    """A run all of whose words are `text`."""
    row = {"metric": text, "features": text, "value": 1.0, "note": text, "resize": text, "interval_kind": text}
    return facts(
        name=text, recipe=text, question=text, device=text, outcome="failed", outcome_message=text,
        headline=[text, text], metrics=[{**row, "images": 5}, {**row, "images": 6}, {**row, "label": text}],
        verdicts=[{"detector": text, "verdict": level, "message": text, "hint": text, "evidence": evidence}
                  for level, evidence in (("failure", text), ("warning", {text: text}))],
        effective={text: text}, parameters={text: 3}, precision={"value": text, "why": text},
        derived=[{"path": text, "value": text, "formula": text}],
        data={"kind": text, "path": text, "images": 1, "skipped": [{"name": text, "reason": text}],
              "details": {text: text}},
        pictures=[{"path": text, "caption": text}], versions={text: text}, commands=[text], trust=[text],
        notes=[text], non_finite={text: text},
    )  # fmt: skip
