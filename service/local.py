"""Commands that work here, without a store: run, sample, translate, data make."""

import os
import sys
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
    profile: int,
) -> None:
    """`gankiln run`: trains the job of `spec` in the directory `out`.

    `roots`: where relative paths begin (None: beside the spec), and where data may be read (None: anywhere).
    `profile`: so many iterations are profiled. Raises SpecError where a study should be.
    """
    from jobs.spec import LoadedStudy, load_any_file

    loaded = load_any_file(spec)  # refused before torch is imported
    relative_to, allowed = roots
    if isinstance(loaded, LoadedStudy):
        if profile:
            raise SpecError(f"--profile: {spec} is a study", hint="profile one job: its spec without the section study")
        from service.study_here import run_study_here

        if "RANK" in os.environ:
            raise SpecError(f"{spec}: is a study, and torchrun is for one job", hint="run it without torchrun")
        begin = relative_to or spec.parent
        run_study_here(loaded, out, roots=(begin, allowed), cache_dir=cache_dir, weights_dir=weights_dir)
        return
    stopping.listen()
    _quiet_unless_first()

    from jobs.data import Roots
    from jobs.run import Surroundings, run

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
            profile_iterations=profile,
        )
        page = run(loaded, around)
    typer.echo(f"report: {page}")


def _quiet_unless_first() -> None:
    """Of the processes that torchrun starts, only the first one speaks."""
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115


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


def draw_here(checkpoints: list[Path], out: Path, count: int, seed: int) -> None:
    """`gankiln draw`: whole drawings into `out`, and one sheet that shows them step by step."""
    from jobs.drawing import Artist, sheet
    from jobs.report import pictures

    artist = Artist(checkpoints)
    drawings = [artist.draw(seed + number) for number in range(count)]
    out.mkdir(parents=True, exist_ok=True)
    for number, steps in enumerate(drawings):
        finished = 255 - steps[-1].ink_RR
        pictures.write_png(out / f"{seed + number:05d}.png", pictures.grid(finished[None, None], scale=1))
    tiles, columns = sheet(drawings)
    path = out / f"{seed:05d}-steps.png"
    pictures.write_png(path, pictures.grid(tiles, columns))
    typer.echo(f"{count} drawings in {out}, step by step in {path}")


def explain_here(checkpoint: Path, images: Path | None, out: Path, *, as_json: bool) -> None:
    """`gankiln explain`: searches, writes a page into `out`, and prints what was found."""
    from jobs.explaining import explain
    from service.terminal import counted

    with counted("moves") as progress:
        page, found = explain(checkpoint, images, out, cache_dir=settings.load().cache_dir, progress=progress)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for coordinate in found.coordinates:
        typer.echo(
            f"{coordinate.layer} · {coordinate.channel} {coordinate.way}: to {coordinate.towards}, "
            f"log-odds {coordinate.effect:+.3g}"
        )
    if found.flips_independent:
        share, many = found.flips_independent[-1], len(found.flips_independent)
        typer.echo(f"{share:.0%} of {found.explained} images change their class with {many} of them moved")
    typer.echo(f"page: {page}")


def translate_here(checkpoint: Path, images: Path, out: Path, way: str) -> None:
    """`gankiln translate`: writes a translation of every image and prints how many, and which were skipped."""
    if way not in ("AB", "BA"):
        raise SpecError(f"--way: {way!r} is neither AB nor BA")
    from rich.progress import Progress

    from jobs.translating import translate_images

    with Progress(transient=True) as bar:
        task = bar.add_task("translating", total=None)
        done = translate_images(
            checkpoint,
            images,
            out,
            "AB" if way == "AB" else "BA",
            progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    for name, reason in done.skipped:
        typer.echo(f"skipped {name}: {reason}", err=True)
    typer.echo(f"{done.written} translations in {out}")


def make_data(kind: str, out: Path, images: int | None, seed: int) -> None:
    """`gankiln data make`: writes a generated set."""
    from jobs.spec.data import ModeGrid, PlantedAttributes
    from jobs.spec.pairs import HeightMaps

    section: ModeGrid | PlantedAttributes
    match kind:
        case "heightmaps":
            from jobs.data import make_pairs

            for path in make_pairs(HeightMaps(images=images or 2000, seed=seed), out):
                typer.echo(str(path))
            return
        case "modegrid":
            section = ModeGrid(images=images or 20_000, seed=seed, labels=True)
        case "planted_attributes":
            section = PlantedAttributes(images=images or 20_000, seed=seed)
        case "toybirds":
            _make_toybirds(out, images, seed)
            return
        case "talkingcartoon":
            _make_clips(out, images, seed)
            return
        case _:
            raise SpecError(
                f"KIND: {kind!r} is no generated set",
                hint="there are modegrid, planted_attributes, toybirds, heightmaps, talkingcartoon",
            )
    from jobs.data import make_zip

    typer.echo(str(make_zip(section, out)))


def _make_clips(out: Path, clips: int | None, seed: int) -> None:
    from jobs.data.make_clips import make_clips
    from jobs.spec.clips import TalkingCartoon

    section = TalkingCartoon(clips=clips or 50, held_out_clips=8, seed=seed, channels="rgb")
    typer.echo(str(make_clips(section, out)))


def _make_toybirds(out: Path, images: int | None, seed: int) -> None:
    from jobs.data.part_stacks import MADE_RESOLUTION, make_stacks
    from jobs.spec.sketch_data import ToyBirds

    section = ToyBirds(part="eye", resolution=MADE_RESOLUTION, drawings=images or 4000, seed=seed)
    typer.echo(str(make_stacks(section, out)))
