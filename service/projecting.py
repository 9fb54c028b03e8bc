"""`gankiln project`: latents of given images."""

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import Progress

from jobs.errors import DataError
from jobs.spec.data import SHIPPED_PREFIX
from service import settings

if TYPE_CHECKING:
    from jobs.projection import Search


def project_here(checkpoint: Path, images: Path, out: Path, search: "Search", *, as_json: bool) -> None:
    """Projects, and prints the mean errors and where everything is."""
    from jobs.projection import Places, project

    if not images.exists() and not str(images).startswith(SHIPPED_PREFIX):
        raise DataError(f"IMAGES: there is nothing at {str(images)!r}")
    configured = settings.load()
    with Progress(transient=True) as progress:
        bar = progress.add_task("projecting")
        errors = project(
            checkpoint,
            images,
            search,
            Places(out, configured.cache_dir, configured.weights),
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    means = {name: statistics.fmean(row[name] for row in errors) for name in errors[0]}
    if as_json:
        typer.echo(json.dumps({"out": str(out), "images": len(errors), "mean": means}))
        return
    said = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
    typer.echo(f"{len(errors)} images in {search.space}: mean {said}")
    typer.echo(f"latents, reconstructions and errors in {out}; all of them in {out / 'projection.png'}")
