"""The queue's part of the command line. Each command connects, asks the queue one thing, and prints the answer.

Imports that take time stand inside the commands: `gankiln --help` answers at once.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from service.queue import JobState, Queue
    from service.settings import Settings

FOLLOW_SECONDS = 2.0

StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="Directory or s3://bucket/prefix. Default: GANKILN_STORE.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id, beginning of an id, or name (the newest).")]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids, beginnings of ids, or names.")]


class _IdleCommand(TyperCommand):
    """Lets `--exit-when-idle` stand without a value, which typer cannot say of an option that may have one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"{arg}=0" if arg == "--exit-when-idle" else arg for arg in args])


def _seconds(text: str) -> float:
    """`180` or `180s`."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise typer.BadParameter("must be 0 or more seconds")
    return seconds


def register(app: typer.Typer) -> None:
    """Adds the commands of the queue to `app`."""
    commands: tuple[Callable[..., None], ...] = (
        *(submit, status, why, logs, results, compare),
        *(cancel, retry, pause, resume, priority),
        *(exporter, ui, doctor, health),
    )
    app.command(cls=_IdleCommand)(worker)
    for command in commands:
        app.command()(command)


def submit(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="YAML job specs.")],
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Check specs of jobs and studies and put them into the queue. None is submitted while one of them is wrong."""
    from jobs.errors import SpecError
    from jobs.spec import LoadedStudy, load_any_file
    from service import tables
    from service.connect import connect
    from service.inputs import missing_inputs

    jobs, errors = [], []
    for path in specs:
        try:
            loaded = load_any_file(path)
            base = loaded.baseline.loaded if isinstance(loaded, LoadedStudy) else loaded
            jobs.append((path, base.job))
        except SpecError as error:
            errors.append(str(error))
    if errors:
        raise SpecError("\n".join(errors))
    queue = connect(store).queue
    for path, job in jobs:
        for note in missing_inputs(queue.store, job):
            typer.echo(f"note: {path}: {note}", err=True)
    submitted = [
        {"id": queue.submit(path.read_bytes(), job.name), "name": job.name, "spec": str(path)} for path, job in jobs
    ]
    if as_json:
        tables.print_json(submitted)
    else:
        tables.print_lines(*(f"{job['id']}  {job['name']}" for job in submitted))


def worker(
    store: StoreOption = None,
    exit_when_idle: Annotated[
        float | None,
        typer.Option(
            metavar="[=SECONDS]",
            parser=_seconds,
            help="Leave after so long without work; without a number: when no job is unfinished.",
        ),
    ] = None,
    unsafe_single_worker: Annotated[
        bool, typer.Option(help="Use a store that fails the self-test; sound only with exactly one worker.")
    ] = False,
) -> None:
    """Claim jobs and run them, one at a time, until SIGTERM: then the running job is given back with a checkpoint."""
    from service import settings as environment
    from service.connect import required_store
    from service.doctor import check_gpus
    from service.signals import on_signals
    from service.store import open_store
    from service.store.selftest import check_store
    from service.worker import preemption, start

    settings = environment.load(store=store)
    opened = open_store(required_store(settings))
    if not unsafe_single_worker:
        check_store(opened)
    check_gpus()
    started = start(opened, settings)
    with on_signals(started.drain), preemption(settings.preemption, started):
        started.observer.log.info(f"waiting for jobs in {opened.url}", action="started", worker=settings.worker_name)
        started.run(exit_when_idle_seconds=exit_when_idle)


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job; else the whole queue.")] = None,
    store: StoreOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most jobs of each kind.")] = 20,
    as_json: Json = False,
) -> None:
    """What runs, waits, and ended lately, and the open studies; or everything about one job."""
    from service import tables
    from service.connect import connect

    queue = connect(store).queue
    if job is None:
        from service.studies import open_studies

        overview, studies = queue.status(limit=limit), open_studies(queue)
        if as_json:
            tables.print_json({**overview.model_dump(mode="json"), "studies": studies})
        else:
            tables.print_overview(overview)
            tables.print_studies(studies)
    else:
        view = queue.job(job)
        tables.print_json(view) if as_json else tables.print_job(view)


def why(job: JobArgument, store: StoreOption = None, as_json: Json = False) -> None:
    """Why a job is where it is, in sentences, and what to do next."""
    from service import tables
    from service.connect import connect

    answer = connect(store).queue.why(job)
    tables.print_json(answer) if as_json else tables.print_why(answer)


def logs(
    job: JobArgument,
    store: StoreOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="One attempt, counted from 1. Default: all.")] = None,
) -> None:
    """What a job printed."""
    from service import tables
    from service.connect import connect
    from service.results import LogReader

    reader = LogReader(connect(store).queue, job, attempt=attempt)
    printed = False
    while True:
        for piece in reader.new():
            tables.print_text(piece)
            printed = True
        if reader.ended or not follow:
            break
        time.sleep(FOLLOW_SECONDS)
    if not printed:
        tables.print_lines(*reader.last_words())


def results(
    job: JobArgument,
    out: Annotated[Path, typer.Option(help="The directory that the files are written to.")],
    store: StoreOption = None,
    partial: Annotated[bool, typer.Option(help="Of an unfinished job: its last checkpoint and sample grids.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch what a job left; every file is checked against the sha256 that was committed."""
    from service import tables
    from service.connect import connect
    from service.results import fetch_partial, fetch_results

    queue = connect(store).queue
    state, files = (fetch_partial if partial else fetch_results)(queue, job, out)
    if as_json:
        tables.print_json({"id": state.id, "status": state.status, "files": [str(file) for file in files]})
    else:
        tables.print_lines(f"{len(files)} files of {state.name} ({state.status}) in {out}")
        if (out / "report.html").exists():
            tables.print_lines(f"report: {out / 'report.html'}")


def compare(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="The --out of a study that was run here; or id or name in a store.")
    ],
    store: StoreOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the comparison of a study in a store is written. Default: nowhere.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the variants of a study, finished or not: the answer, the table, study.html, study.json, CSV."""
    from service.study_here import compare_directory, compare_in_store

    if Path(study).is_dir():
        compare_directory(Path(study), as_json=as_json)
    else:
        compare_in_store(study, store, out, as_json=as_json)


def cancel(
    jobs: Jobs,
    store: StoreOption = None,
    message: Annotated[str, typer.Option(help="Why, for whoever asks later.")] = "",
    as_json: Json = False,
) -> None:
    """Stop running jobs (with a last checkpoint), take waiting ones out of the queue; of a study, all of its jobs."""
    from service.studies import cancel_any

    queue = _queue(store)
    states = [state for job in jobs for state in cancel_any(queue, job, message)]
    _tell(states, as_json, done="cancelled", asked="asked to stop")


def retry(
    jobs: Jobs,
    store: StoreOption = None,
    from_checkpoint: Annotated[
        Literal["last", "none"], typer.Option(help="Go on from the last checkpoint, or start anew.")
    ] = "last",
    as_json: Json = False,
) -> None:
    """Queue failed, cancelled or dead jobs again, with fresh budgets."""
    queue = _queue(store)
    states = [queue.retry(job, from_checkpoint=from_checkpoint == "last") for job in jobs]
    _tell(states, as_json, done="queued again")


def pause(jobs: Jobs, store: StoreOption = None, as_json: Json = False) -> None:
    """Checkpoint and stop running jobs, hold waiting ones back, until `resume`."""
    queue = _queue(store)
    _tell([queue.pause(job) for job in jobs], as_json, done="paused", asked="asked to pause")


def resume(jobs: Jobs, store: StoreOption = None, as_json: Json = False) -> None:
    """Let paused jobs go on, at the place in the queue that they had."""
    queue = _queue(store)
    _tell([queue.resume(job) for job in jobs], as_json, done="in the queue again")


def priority(
    job: JobArgument,
    value: Annotated[int, typer.Argument(min=0, max=99, help="Larger runs first.")],
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Change a job's priority."""
    _tell([_queue(store).prioritise(job, value)], as_json, done=f"has priority {value}")


def exporter(
    store: StoreOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default: GANKILN_METRICS_PORT.")] = None,
) -> None:
    """Serve the queue's depth as Prometheus metrics, also while no worker runs; /queue has it as JSON."""
    import threading

    from service.connect import connect
    from service.exporter import Exporter
    from service.signals import on_signals
    from service.telemetry.server import TelemetryServer

    connection = connect(store)
    settings = connection.settings
    log = _log(settings)
    scanner = Exporter(connection.queue, log)
    server = TelemetryServer(
        scanner.recorder,
        settings.metrics_host,
        settings.metrics_port if port is None else port,
        healthy=lambda: None,
        ready=scanner.unready,
        extra={"/queue": lambda: scanner.numbers},
    )
    stopped = threading.Event()
    with on_signals(stopped.set):
        log.info(f"metrics of {connection.store.url} on port {server.port}", action="started", port=server.port)
        scanner.run(settings.scan_seconds, stopped.wait)
    server.close()


def ui(
    store: StoreOption = None,
    host: Annotated[str, typer.Option(help="Address to serve on; others than this machine's own see everything.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8265,
) -> None:
    """Show the queue, runs and studies of a store as web pages. Reads only; it has no log-in of its own."""
    import threading

    from service import tables
    from service.connect import connect
    from service.signals import on_signals
    from service.ui import Pages, PageServer

    connection = connect(store)
    log = _log(connection.settings)
    try:
        server = PageServer(Pages(connection.queue), host, port, lambda text: log.warning(text, action="page_failed"))
    except OSError as error:
        raise typer.BadParameter(f"{host}:{port}: {error.strerror}", param_hint="--port") from None
    stopped = threading.Event()
    with on_signals(stopped.set):
        tables.print_lines(f"http://{host}:{server.port}/ shows {connection.store.url}; Ctrl-C ends it")
        stopped.wait()
    server.close()


def doctor(
    store: StoreOption = None,
    show_settings: Annotated[bool, typer.Option("--settings", help="List every setting and leave.")] = False,
    as_json: Json = False,
) -> None:
    """Test the store, the GPU, the disk, shared memory, the weights and the clock. Exit code 1 when one is bad."""
    from service import settings as environment
    from service import tables

    if show_settings:
        tables.print_lines(environment.reference_markdown())
        return
    from service.doctor import examine

    checks = list(examine(environment.load(store=store)))
    if as_json:
        tables.print_json([check.as_dict() for check in checks])
    else:
        rows = [(check.name, check.state, check.message, check.hint) for check in checks]
        tables.print_table(("check", "status", "finding", "hint"), rows)
    if any(check.state == "bad" for check in checks):
        raise typer.Exit(1)


def health(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: GANKILN_METRICS_PORT.")] = None,
) -> None:
    """Ask the worker on this machine whether it is alive: for HEALTHCHECK. Exit code 1 when it is not."""
    import http.client

    from service import settings as environment
    from service import tables

    chosen = port or environment.load().metrics_port
    connection = http.client.HTTPConnection("127.0.0.1", chosen, timeout=5)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        tables.print_text(answer.read().decode(errors="replace"))
        good = answer.status == http.HTTPStatus.OK
    except OSError as error:
        tables.print_lines(f"no worker answers on port {chosen}: {error}")
        good = False
    finally:
        connection.close()
    if not good:
        raise typer.Exit(1)


def _queue(store: str | None) -> "Queue":
    from service.connect import connect

    return connect(store).queue


def _log(settings: "Settings"):  # type: ignore[no-untyped-def] # noqa: ANN202 - structlog stays inside the function
    from service import settings as environment
    from service.redact import Redactor
    from service.telemetry import logs as telemetry_logs

    redact = Redactor(environment.secret_values())
    return telemetry_logs.configure(format=settings.log_format, level=settings.log_level, redact=redact)


def _tell(states: "list[JobState]", as_json: bool, *, done: str, asked: str = "") -> None:
    """What became of jobs: a running one was only asked, its worker hears it with the next heartbeat."""
    from service import tables

    if as_json:
        tables.print_json(states)
        return
    for state in states:
        tables.print_lines(f"{state.id}  {state.name}: {asked if asked and state.status == 'claimed' else done}")
