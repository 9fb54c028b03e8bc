"""The command `gankiln`. Imports inside the commands keep `gankiln --help` and `gankiln check` far below a second."""

import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

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
    """Read a spec and print its plan: every resolved value, parameters, memory. Exit code 64 when it is wrong."""
    from jobs.spec import load_file
    from service.plan import print_plan

    print_plan(load_file(spec), as_json=as_json)


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
) -> None:
    """Train, evaluate and report one job here, without a queue."""
    from service.local import run_here

    run_here(spec, out, roots=(relative_to, data_root), cache_dir=cache_dir, weights_dir=weights_dir)


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
def evaluate(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder or zip of images, or a checkpoint.")],
    against: Annotated[Path, typer.Option(help="The folder or zip of real images.")],
    resolution: Annotated[int | None, typer.Option(help="Side in pixels; default: the checkpoint's.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="Images of each set, at most.")] = 1000,
    features: Annotated[str | None, typer.Option(help="Feature spaces, with commas; default: those of a spec.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Metrics, with commas; default: those of a spec.")] = None,
    as_json: Json = False,
) -> None:
    """Score a checkpoint, or a set of images from anywhere, against real images; without training."""
    from service.judging import evaluate_here

    evaluate_here(images, against, resolution, samples, (features, metrics), as_json=as_json)


@data_app.command("make")
def data_make(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="The generated set: modegrid.")],
    out: Annotated[Path, typer.Option(help="The directory that the zip is written to.")],
    images: Annotated[int | None, typer.Option(min=1, help="How many images; default: the kind's own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same set.")] = 0,
) -> None:
    """Write a generated data set as a zip that any spec can name."""
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
