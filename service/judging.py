"""`gankiln evaluate`: two sets of images against one another, without a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from jobs.errors import SpecError
from jobs.spec.data import ImageFolder, ImageZip
from jobs.spec.evaluation import Evaluation
from service import settings


def evaluate_here(
    images: Path,
    against: Path,
    resolution: int | None,
    samples: int,
    asked: tuple[str | None, str | None],
    *,
    as_json: bool,
) -> None:
    """Prints the table of `images` against the real ones, and what not to believe of it."""
    section = _section(samples, asked)
    configured = settings.load()

    from jobs.evaluation.compare import evaluate_sets
    from jobs.evaluation.weights import missing_weights
    from jobs.training.device import choose_device

    if absent := missing_weights(section, configured.weights):
        raise SpecError("\n".join(absent))
    judged = _generated(images, samples)
    side = resolution or (judged.shape[-1] if judged is not None else None)
    if side is None:
        raise SpecError("--resolution: needed where neither set is a checkpoint", hint="for example --resolution 32")
    channels = 3 if judged is None else judged.shape[1]
    if judged is None:
        judged = _read(images, side, channels, configured.cache_dir)
    rows, sentences = evaluate_sets(
        judged[:samples],
        _read(against, side, channels, configured.cache_dir),
        section,
        cache_dir=configured.cache_dir / "features",
        device=choose_device("auto"),
        weights_dir=configured.weights,
    )
    _print([row.as_dict() for row in rows], sentences, as_json=as_json)


def _section(samples: int, asked: tuple[str | None, str | None]) -> Evaluation:
    features, metrics = (value.split(",") if value else None for value in asked)
    given = {"samples": samples, "features": features, "metrics": metrics}
    try:
        return Evaluation.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [f"--{detail['loc'][0]}: {detail['msg']}; got {detail['input']!r}" for detail in error.errors()]
        raise SpecError("\n".join(problems)) from None


def _generated(path: Path, samples: int) -> NDArray[np.uint8] | None:
    """Pictures drawn from `path`, where it is a checkpoint, a run, or a generator."""
    checkpoint = (path / "MANIFEST.json").exists() or (path / "checkpoints").is_dir()
    if not checkpoint and path.suffix != ".safetensors":
        return None
    from jobs.sampling import draw

    return draw(path, samples, seed=0)


def _read(path: Path, side: int, channels: int, cache_dir: Path) -> NDArray[np.uint8]:
    from jobs.data import Roots, open_dataset

    kind = ImageZip if path.suffix == ".zip" or str(path).startswith("shipped:") else ImageFolder
    shape: Any = {1: "grey", 3: "rgb", 4: "rgba"}[channels]
    try:
        section = kind(path=str(path), resolution=side, channels=shape)
    except ValidationError as error:
        raise SpecError(f"{path}: {error.errors()[0]['msg']}") from None
    return open_dataset(section, cache_dir=cache_dir / "data", roots=Roots(Path())).images_NCHW


def _print(rows: list[dict[str, Any]], sentences: list[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"rows": rows, "trust": sentences}, indent=2))  # noqa: T201  the output of the command
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("metric", "features", "value", "95 %", "images", "what"):
        table.add_column(column)
    for row in rows:
        low, high = row.get("interval_low"), row.get("interval_high")
        interval = f"{low:.4g} to {high:.4g}" if low is not None and high is not None else ""
        counts = f"{row['samples']} of {row.get('real_samples', '')}"
        table.add_row(row["metric"], row["features"], f"{row['value']:.5g}", interval, counts, row.get("label", ""))
    console.print(table)
    for sentence in sentences:
        console.print(f"[yellow]beware:[/yellow] {sentence}", soft_wrap=True)
