"""`gankiln evaluate`: two sets of images, or a checkpoint and one, against one another, without a run."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError
from rich.console import Console
from rich.table import Table

from jobs.errors import DataError, SpecError
from jobs.spec.data import CHANNEL_COUNT, SHIPPED_PREFIX, ImageFolder, ImageZip
from jobs.spec.evaluation import Evaluation, ReconstructionMetric
from service import settings

if TYPE_CHECKING:
    from jobs.data import ImageDataset
    from jobs.evaluation.compare import Generator
    from jobs.evaluation.rows import MetricRow

IMAGES, AGAINST = "IMAGES", "--against"
PATH_METRICS = ("ppl_z", "ppl_w")
PAIRED_METRICS: tuple[ReconstructionMetric, ...] = get_args(ReconstructionMetric)
Side = Annotated[int, Field(ge=4, le=4096)]


@dataclass(frozen=True)
class Asked:
    """What the command line says beyond the two sets; lists of names are separated by commas."""

    resolution: int | None = None
    samples: int = 1000
    features: str | None = None
    metrics: str | None = None
    paired: bool = False


@dataclass(frozen=True)
class Look:
    """As what images are read: both sets alike."""

    resolution: int
    channels: Literal["grey", "rgb", "rgba"] = "rgb"
    fit: Literal["crop", "pad", "stretch"] = "crop"
    labels: bool = False


class _Folder(ImageFolder):
    """No generator has to draw these, so any size will do."""

    resolution: Side


class _Zip(ImageZip):
    resolution: Side


@dataclass(frozen=True)
class Verdict:
    """What comes out."""

    rows: "list[MetricRow]"
    look: Look
    trust: list[str] = field(default_factory=list)


def evaluate_here(images: Path, against: Path, asked: Asked, *, as_json: bool) -> None:
    """Prints the table of `images` against the real ones, and what not to believe of it.

    Raises SpecError for options that make no sense, DataError for sets that cannot be read.
    """
    for path, what in ((images, IMAGES), (against, AGAINST)):
        _refuse_absent(path, what)
    verdict = _pairs(images, against, asked) if asked.paired else _sets(images, against, asked)
    if as_json:
        rows = [row.as_dict() for row in verdict.rows]
        print(json.dumps({"rows": rows, "trust": verdict.trust}, indent=2))  # noqa: T201  the output of the command
    else:
        _print(verdict)


def _sets(images: Path, against: Path, asked: Asked) -> Verdict:
    """Two distributions."""
    section, configured = _section(asked), settings.load()
    _refuse_missing_weights(section)
    judged: Any = _generator(images)
    if judged is None and (paths := [metric for metric in section.metrics if metric in PATH_METRICS]):
        raise SpecError(
            f"--metrics: {' and '.join(paths)} needs the latents of a generator, and {images} holds images",
            hint="give a checkpoint, or ask for other metrics",
        )
    generator, look = judged or (None, _look(asked))
    labels = "classifier" in section.features
    real = _read(against, AGAINST, Look(look.resolution, look.channels, look.fit, labels=labels))

    from jobs.evaluation.compare import evaluate_sets
    from jobs.training.device import choose_device

    with _told() as seen:
        rows, sentences = evaluate_sets(
            generator or _read(images, IMAGES, look).images_NCHW,
            real.images_NCHW,
            section,
            cache_dir=configured.cache_dir / "features",
            device=choose_device("auto"),
            labels_N=real.labels_N,
            weights_dir=configured.weights,
            seen=seen,
        )
    return Verdict(rows, look, sentences)


def _pairs(images: Path, against: Path, asked: Asked) -> Verdict:
    """Image by image, in the order of their names."""
    metrics, look, configured = _paired_metrics(asked.metrics), _look(asked), settings.load()
    section = Evaluation(metrics=("lpips_diversity",)) if "lpips" in metrics else Evaluation()
    _refuse_missing_weights(Evaluation(features=("pixels",), metrics=section.metrics))
    made, target = _read(images, IMAGES, look), _read(against, AGAINST, look)
    for dataset, what in ((made, IMAGES), (target, AGAINST)):
        if dataset.skipped:
            name, reason = dataset.skipped[0]
            raise DataError(f"{what}: {name} {reason}, so what follows it would be paired with the wrong image")

    from jobs.evaluation.compare import evaluate_pairs
    from jobs.training.device import choose_device

    rows = evaluate_pairs(
        made.images_NCHW,
        target.images_NCHW,
        metrics,
        section,
        cache_dir=configured.cache_dir / "features",
        device=choose_device("auto"),
        weights_dir=configured.weights,
    )
    return Verdict(rows, look)


def _section(asked: Asked) -> Evaluation:
    given = {"samples": asked.samples, "features": _names(asked.features), "metrics": _names(asked.metrics)}
    try:
        return Evaluation.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors() if detail["type"] != "too_short"]
        raise SpecError("\n".join(dict.fromkeys(problems))) from None


def _names(listed: str | None) -> list[str] | None:
    return None if listed is None else [name.strip() for name in listed.split(",")]


def _problem(detail: Any) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    return f"--{detail['loc'][0]}: {message}; got {detail['input']!r}" if detail["loc"] else f"--{message}"


def _paired_metrics(listed: str | None) -> Sequence[ReconstructionMetric]:
    """Those asked for, or all."""
    asked = _names(listed) or list(PAIRED_METRICS)
    if wrong := [name for name in asked if name not in PAIRED_METRICS]:
        raise SpecError(f"--metrics: with --paired there are {', '.join(PAIRED_METRICS)}; got {', '.join(wrong)!r}")
    return [metric for metric in PAIRED_METRICS if metric in asked]


def _refuse_missing_weights(section: Evaluation) -> None:
    from jobs.evaluation.weights import missing_weights

    if absent := missing_weights(section, settings.load().weights):
        raise SpecError("\n".join(absent))


def _look(asked: Asked) -> Look:
    if asked.resolution is None:
        raise SpecError("--resolution: needed where neither set is a checkpoint", hint="for example --resolution 32")
    return Look(asked.resolution)


def _generator(path: Path) -> "tuple[Generator, Look] | None":
    """What `path` draws, where it is a checkpoint, a run, or a generator, and how its data was read."""
    checkpoint = (path / "MANIFEST.json").exists() or (path / "checkpoints").is_dir()
    if not checkpoint and path.suffix != ".safetensors":
        return None
    from jobs.evaluation.compare import Generator
    from jobs.sampling import load_recipe
    from jobs.systems.stylegan2 import latent_of

    job, recipe = load_recipe(path)
    data = job.recipe.data
    look = Look(data.resolution, data.channels, getattr(data, "fit", "crop"))
    return Generator(recipe.sample, latent_of(recipe)), look


def _refuse_absent(path: Path, what: str) -> None:
    """Before torch is imported."""
    if str(path).startswith(SHIPPED_PREFIX):
        return
    if not path.exists():
        raise DataError(f"{what}: there is nothing at {str(path)!r}")
    if path.is_file() and path.suffix not in (".zip", ".safetensors"):
        raise DataError(f"{what}: {str(path)!r} is neither a folder or zip of images nor a checkpoint")


def _read(path: Path, what: str, look: Look) -> "ImageDataset":
    from jobs.data import Roots, open_dataset

    kind = _Zip if path.suffix == ".zip" or str(path).startswith(SHIPPED_PREFIX) else _Folder
    try:
        section = kind.model_validate({"path": str(path), **vars(look)})
    except ValidationError as error:
        raise SpecError("\n".join(_problem(detail) for detail in error.errors())) from None
    try:
        return open_dataset(section, cache_dir=settings.load().cache_dir / "data", roots=Roots(Path()))
    except DataError as error:
        raise DataError(f"{what}: {error.message.removeprefix('data.path: ')}", hint=error.hint) from None


@contextmanager
def _told() -> Iterator[Callable[[str, int], None]]:
    """Shows on a terminal how far the work is; elsewhere nothing."""
    done: dict[str, int] = {}
    with Console(stderr=True).status("") as status:

        def seen(space: str, images: int) -> None:
            done[space] = done.get(space, 0) + images
            status.update(", ".join(f"{name} {count:,} images" for name, count in done.items()))

        yield seen


def _print(verdict: Verdict) -> None:
    """One row a metric and feature space; what is known of real images stands beside it."""
    console = Console(highlight=False)
    look = verdict.look
    console.print(f"images of {look.resolution}x{look.resolution} pixels, {CHANNEL_COUNT[look.channels]} channels")
    comparisons = list(dict.fromkeys(row.label for row in verdict.rows if row.label))
    table = Table(box=None, pad_edge=False)
    for column in ("metric", "features", "value", "95 %", *comparisons, "images", "resize"):
        table.add_column(column, no_wrap=column in ("metric", "features", "value"))
    for row in (row for row in verdict.rows if not row.label):
        beside = (_beside(row, label, verdict.rows) for label in comparisons)
        counts = f"{row.samples:,} : {row.real_samples:,}" if row.real_samples else f"{row.samples:,}"
        table.add_row(row.metric, row.features, f"{row.value:.5g}", _interval(row), *beside, counts, row.resize or "")
    console.print(table)
    for sentence in verdict.trust:
        console.print(f"[yellow]beware:[/yellow] {sentence}", soft_wrap=True)


def _beside(row: "MetricRow", label: str, rows: "Sequence[MetricRow]") -> str:
    """The same metric in the same space of a comparison whose answer is known."""
    same = (other for other in rows if (other.metric, other.features, other.label) == (row.metric, row.features, label))
    known = next(same, None)
    return "" if known is None else f"{known.value:.4g}"


def _interval(row: "MetricRow") -> str:
    return "" if row.interval_low is None else f"{row.interval_low:.4g} to {row.interval_high:.4g}"
