"""The command `gankiln`. Imports inside the commands keep `gankiln --help` and `gankiln check` far below a second."""

import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.errors import GankilnError, InternalError, Interrupted
from service import commands

app = typer.Typer(
    name="gankiln",
    help="Train GANs from YAML specs: run one here, or submit it to a store where workers take it up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="A YAML job spec.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(spec: SpecPath, as_json: Json = False) -> None:
    """Read a spec and print its plan: every resolved value, parameters, memory; of a study, its runs and their cost.
    Exit code 64 when it is wrong."""
    from jobs.spec import LoadedStudy, load_any_file
    from service.plan import print_plan
    from service.study_here import print_study_plan

    match load_any_file(spec):
        case LoadedStudy() as study:
            print_study_plan(study, as_json=as_json)
        case loaded:
            print_plan(loaded, as_json=as_json)


@app.command()
def run(
    spec: SpecPath,
    out: Annotated[Path, typer.Option(help="The run directory; run the same command again to go on.")],
    data_root: Annotated[
        list[Path] | None, typer.Option(help="Data may be read only below these directories. Default: anywhere.")
    ] = None,
    relative_to: Annotated[
        Path | None, typer.Option(help="Where relative paths in the spec begin. Default: the spec's directory.")
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Decoded data and features. Default: cache/ in GANKILN_HOME.")
    ] = None,
    weights_dir: Annotated[
        Path | None, typer.Option(help="Evaluation weights that no package carries. Default: GANKILN_WEIGHTS.")
    ] = None,
    profile: Annotated[
        int,
        typer.Option(min=0, max=1000, metavar="N", help="Profile N iterations; the trace is OUT/profile.json.gz."),
    ] = 0,
) -> None:
    """Train, evaluate and report one job here, or all runs of a study one after another; without a queue."""
    from service.local import run_here

    run_here(spec, out, roots=(relative_to, data_root), cache_dir=cache_dir, weights_dir=weights_dir, profile=profile)


@app.command()
def sample(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint directory.")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("samples"),
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pictures.")] = 0,
    truncation: Annotated[float | None, typer.Option(min=0, max=2, help="Truncation psi; default: the spec's.")] = None,
) -> None:
    """Draw pictures from the averaged generator of a checkpoint: single files and one grid."""
    from service.local import sample_here

    sample_here(checkpoint, out, count, seed, truncation)


@app.command()
def draw(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CHECKPOINT...", help="Checkpoints of kind: sketch, one for each part.")
    ],
    out: Annotated[Path, typer.Option(help="Where the drawings go.")] = Path("drawings"),
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many drawings.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same drawings.")] = 0,
) -> None:
    """Draw whole sketches, part after part: single files and one sheet that shows every step."""
    from service.local import draw_here

    draw_here(checkpoints, out, count, seed)


@app.command()
def explain(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint or run of kind: stylex.")],
    images: Annotated[
        Path | None, typer.Argument(metavar="[IMAGES]", help="A folder or zip of images; default: the run's own data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("explanation"),
    as_json: Json = False,
) -> None:
    """Show what changes a classifier's mind: the style coordinates, moved on images; a page and its numbers."""
    from service.local import explain_here

    explain_here(checkpoint, images, out, as_json=as_json)


@app.command()
def translate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint of a translation.")],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder, a zip, or one image.")],
    out: Annotated[Path, typer.Option(help="Where the translations go, each under the name of its image.")],
    way: Annotated[str, typer.Option(help="AB, from the first domain to the second; or BA.")] = "AB",
) -> None:
    """Translate images from one domain to the other with a checkpoint."""
    from service.local import translate_here

    translate_here(checkpoint, images, out, way)


@app.command()
def evaluate(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder or zip of images, or a checkpoint.")],
    against: Annotated[Path, typer.Option(help="The folder or zip of real images; of targets with --paired.")],
    resolution: Annotated[int | None, typer.Option(help="Side in pixels; default: the checkpoint's.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="Images of each set, at most.")] = 1000,
    features: Annotated[str | None, typer.Option(help="Feature spaces, with commas; default: those of a spec.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Metrics, with commas; default: those of a spec.")] = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="Compare image by image, in the order of names: L1, PSNR, SSIM, LPIPS.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score a checkpoint, or a set of images from anywhere, against real images; without training."""
    from service.judging import Asked, evaluate_here

    evaluate_here(images, against, Asked(resolution, samples, features, metrics, paired), as_json=as_json)


@app.command()
def project(  # noqa: PLR0913, PLR0917  one argument an option
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint or run with styles.")],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder or zip of images.")],
    out: Annotated[Path, typer.Option(help="Where latents, reconstructions and errors go.")] = Path("projection"),
    space: Annotated[Literal["w", "w+"], typer.Option(help="One w for an image, or one for each layer.")] = "w+",
    loss: Annotated[Literal["pixels", "lpips"], typer.Option(help="What is made small.")] = "pixels",
    steps: Annotated[int, typer.Option(min=1, help="Steps of Adam for each image.")] = 500,
    learning_rate: Annotated[float, typer.Option(min=1e-6, help="Of Adam, on w.")] = 0.05,
    limit: Annotated[int | None, typer.Option(min=1, help="Most images, spread evenly over the set.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents that a search begins from.")] = 0,
    as_json: Json = False,
) -> None:
    """Find the latents whose pictures are nearest to given images: projection into W or W+."""
    from jobs.projection import Search
    from service.projecting import project_here

    search = Search(space, loss, steps, learning_rate, seed, limit)
    project_here(checkpoint, images, out, search, as_json=as_json)


@app.command()
def animate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint of a talking_face.")],
    still: Annotated[Path, typer.Argument(metavar="STILL", help="A picture of a face; its middle square is used.")],
    voice: Annotated[Path, typer.Argument(metavar="VOICE", help="A PCM wav file.")],
    out: Annotated[Path, typer.Option(help="The film: a name ending in .mp4.")] = Path("animated.mp4"),
    seed: Annotated[int, typer.Option(min=0, help="Of the noise: blinks and the like.")] = 0,
) -> None:
    """Make a still image say what is heard: an mp4 with sound. Needs the extra `video`."""
    from jobs.animate import animate as make

    typer.echo(f"{make(checkpoint, still, voice, out, seed)} frames in {out}")


@data_app.command("make")
def data_make(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="The generated set: modegrid, planted_attributes, toybirds, heightmaps, talkingcartoon.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The directory that it is written to.")],
    images: Annotated[
        int | None, typer.Option(min=1, help="How many images, or clips; default: the kind's own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same set.")] = 0,
) -> None:
    """Write a generated data set for any spec to name: a zip, or a folder of clips (talkingcartoon)."""
    from service.local import make_data

    make_data(kind, out, images, seed)


commands.register(app)


def main() -> None:
    """Runs a command; an error becomes one clear message and its own exit code, never a traceback."""
    try:
        app()
    except GankilnError as error:
        sys.stderr.write(f"gankiln: {error}\n")
        sys.exit(_exit_code(error))
    except Exception as error:
        traceback.print_exc()
        sys.stderr.write(f"gankiln: an error of gankiln itself ({type(error).__name__}); the lines above say where\n")
        sys.exit(InternalError.exit_code)


def _exit_code(error: GankilnError) -> int:
    """130 and 143 after a signal that left a checkpoint, else the error's own."""
    from service import stopping

    if isinstance(error, Interrupted) and stopping.received is not None:
        return 128 + signal.Signals(stopping.received).value
    return error.exit_code
