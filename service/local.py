"""Commands that work here, without a store: run, sample, data make."""

from pathlib import Path

import typer

from jobs.errors import SpecError
from service import settings, stopping
from service.terminal import open_terminal


def run_here(
    spec: Path,
    out: Path,
    *,
    roots: tuple[Path | None, list[Path] | None],
    cache_dir: Path | None,
    weights_dir: Path | None,
) -> None:
    """`gankiln run`: trains the job of `spec` in the directory `out`.

    `roots`: where relative paths begin (None: beside the spec), and where data may be read (None: anywhere).
    """
    from jobs.spec import load_file

    loaded = load_file(spec)  # refused before torch is imported
    stopping.listen()

    from jobs.data import Roots
    from jobs.run import Surroundings, run

    relative_to, allowed = roots
    configured = settings.load()
    with open_terminal(loaded.job.training.images) as terminal:
        around = Surroundings(
            out=out,
            cache_dir=cache_dir or configured.cache_dir,
            roots=Roots(relative_to or spec.parent, None if allowed is None else tuple(allowed)),
            weights_dir=weights_dir or configured.weights,
            should_stop=stopping.asked,
            watch=terminal.show,
            progress_seconds=terminal.progress_seconds,
        )
        page = run(loaded, around)
    typer.echo(f"report: {page}")


def sample_here(checkpoint: Path, out: Path, count: int, seed: int, truncation: float | None) -> None:
    """`gankiln sample`: draws `count` pictures into `out` and prints where they are."""
    from jobs.report import pictures
    from jobs.sampling import draw

    images = draw(checkpoint, count, seed, truncation)
    out.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        pictures.write_png(out / f"{seed:04d}-{index:05d}.png", pictures.grid(image[None], scale=1))
    sheet = out / f"{seed:04d}-grid.png"
    pictures.write_png(sheet, pictures.grid(images))
    typer.echo(f"{count} pictures in {out}, all of them in {sheet}")


def make_data(kind: str, out: Path, images: int | None, seed: int) -> None:
    """`gankiln data make`: writes a generated set."""
    from jobs.spec.data import ModeGrid

    if kind != "modegrid":
        raise SpecError(f"KIND: {kind!r} is no generated set", hint="there is modegrid")
    section = ModeGrid(images=images or 20_000, seed=seed, labels=True)
    from jobs.data import make_zip

    typer.echo(str(make_zip(section, out)))
