"""What each page shows, from one look at the store. Everything that a spec, a run or a worker wrote is escaped.

What a run left is served under /jobs/<id>/files/ by its name in the run directory, and only what `live.files` knows;
its report is somebody else's page and comes with a policy that keeps it from everything but itself.
"""

import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2

from jobs.errors import StoreError
from jobs.report import curves, words
from jobs.report.charts import Drawn
from jobs.report.curves import Chart
from jobs.report.history import read_history
from jobs.report.metrics import meaning
from jobs.report.templates import environment
from jobs.spec.variants import shown
from jobs.study.results import read_run
from jobs.study.sentences import interval, signed
from service import live, tables
from service.queue import JobGone, JobNotFound, JobState, JobView, Queue, keys
from service.queue.model import JOB_ID_PATTERN
from service.store import KeyNotFound
from service.studies import Studies, study_of, view

HERE = Path(__file__).parent
REPORTS = Path(curves.__file__).parent
LONGEST_LOG_BYTES, LONGEST_SPEC_BYTES, LARGEST_FILE_BYTES = 64_000, 256_000, 50_000_000
MOST_STUDIES, MOST_SAMPLES = 20, 6
REFRESH_SECONDS = 15
STUDY_PAGE_SECONDS = 30.0
OWN_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
FOREIGN_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""For pages that a run wrote: no origin, no network, no cookies; whatever is in them stays in them."""
TYPES = {".png": "image/png", ".html": "text/html; charset=utf-8", ".json": "application/json", ".yaml": "text/plain"}


@dataclass(frozen=True)
class Answer:
    """What is sent."""

    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    policy: str = OWN_POLICY


@dataclass
class Pages:
    """The pages of one store."""

    queue: Queue
    clock: Callable[[], float] = time.monotonic
    _study_pages: dict[str, tuple[float, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._studies = Studies(self.queue)
        self._templates = _templates()
        self._routes: tuple[tuple[re.Pattern[str], Callable[..., Answer]], ...] = (
            (re.compile(r"/"), self.overview),
            (re.compile(rf"/jobs/({JOB_ID_PATTERN})"), self.job),
            (re.compile(rf"/jobs/({JOB_ID_PATTERN})/files/([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)?)"), self.file),
            (re.compile(rf"/studies/({JOB_ID_PATTERN})"), self.study),
            (re.compile(rf"/studies/({JOB_ID_PATTERN})/study\.html"), self.study_page),
            (re.compile(r"/(style\.css|script\.js)"), self.asset),
        )

    def answer(self, path: str) -> Answer:
        """The answer to a GET of `path`. Never raises for what is asked, nor for a store that fails."""
        try:
            for pattern, page in self._routes:
                if found := pattern.fullmatch(path):
                    return page(*found.groups())
        except (JobNotFound, JobGone, KeyNotFound) as error:
            return self._problem(HTTPStatus.NOT_FOUND, "There is nothing here", error.message)
        except StoreError as error:
            return self._problem(HTTPStatus.SERVICE_UNAVAILABLE, "The store does not answer", error.message)
        return self._problem(HTTPStatus.NOT_FOUND, "There is nothing here", "No page has this address.")

    def overview(self) -> Answer:
        """What runs, waits and ended lately, and the studies."""
        overview = self.queue.status(limit=50)
        running = {view.state.id for view in overview.running}
        return self._page(
            "overview.html",
            title="Queue",
            store=self.queue.store.url,
            depth=tables.depth_sentence(overview.depth),
            lists=(
                ("Running", overview.running),
                ("Waiting", overview.waiting),
                ("Paused", overview.paused),
                ("Finished lately", overview.finished),
            ),
            studies=[view(self._studies, study_id, running) for study_id in self._recent_studies()],
            open_studies=set(self._studies.open_ids()),
        )

    def job(self, job_id: str) -> Answer:
        """One job: where it stands and why, its curves and pictures so far, what it printed last."""
        view = self.queue.job(job_id)
        found = live.files(self.queue.store, view.state)
        grids = live.grids(found)
        charts, notes = self._charts(job_id)
        return self._page(
            "job.html",
            title=view.state.name,
            view=view,
            why=self.queue.why(job_id),
            refresh=None if view.state.terminal else REFRESH_SECONDS,
            charts=charts,
            notes=notes,
            grids=list(grids.items())[-MOST_SAMPLES:][::-1],
            has_report="report.html" in found,
            log=self._last_log(view.state),
            spec=self._text(keys.spec(job_id), LONGEST_SPEC_BYTES),
            study=study_of(view.state.source),
        )

    def file(self, job_id: str, path: str) -> Answer:
        """One file that a job left: a grid, its report. Raises KeyNotFound for anything else."""
        content_type = TYPES.get(Path(path).suffix)
        head = self.queue.log.head(job_id)
        found = live.files(self.queue.store, head.state) if head else {}
        if content_type is None or path not in found:
            raise KeyNotFound(path)
        stat = self.queue.store.stat(found[path])
        if stat is None or stat.size_bytes > LARGEST_FILE_BYTES:
            raise KeyNotFound(path)
        return Answer(self.queue.store.get(found[path]), content_type, policy=FOREIGN_POLICY)

    def study(self, study_id: str) -> Answer:
        """One study as it was last tended, with links to its jobs."""
        report = self._studies.kept(study_id)
        jobs = self._studies.jobs(study_id)
        is_open = study_id in self._studies.open_ids()
        if report is None and not is_open:
            raise JobNotFound(f"{study_id}: there is no such study")
        return self._page(
            "study.html",
            title=report.name if report else study_id,
            study_id=study_id,
            report=report,
            jobs=jobs,
            refresh=REFRESH_SECONDS if is_open else None,
        )

    def study_page(self, study_id: str) -> Answer:
        """The whole comparison with curves and pictures: the published one, else made now and kept for a while."""
        report = self._studies.kept(study_id)
        if report is not None:
            with suppress(KeyNotFound):
                key = f"{keys.study_results(report.name, study_id)}/study.html"
                return Answer(self.queue.store.get(key), policy=FOREIGN_POLICY)
        made, body = self._study_pages.get(study_id, (-STUDY_PAGE_SECONDS, b""))
        if self.clock() - made >= STUDY_PAGE_SECONDS:
            with tempfile.TemporaryDirectory(prefix="gankiln-ui-") as folder:
                self._studies.write(self._studies.standing(study_id), Path(folder))
                body = (Path(folder) / "study.html").read_bytes()
            self._study_pages = {study_id: (self.clock(), body)}  # only the last one: pages are large
        return Answer(body, policy=FOREIGN_POLICY)

    def asset(self, name: str) -> Answer:
        """Our own style and script."""
        if name == "script.js":
            return Answer((REPORTS / "report.js").read_bytes(), "text/javascript; charset=utf-8")
        style = (REPORTS / "report.css").read_bytes() + (HERE / "ui.css").read_bytes()
        return Answer(style, "text/css; charset=utf-8")

    def _recent_studies(self) -> list[str]:
        """Ids of the newest studies; an id begins with its time."""
        found = {stat.key.rpartition("/")[2] for stat in self.queue.store.list("studies/names/")}
        return sorted(filter(re.compile(JOB_ID_PATTERN).fullmatch, found), reverse=True)[:MOST_STUDIES]

    def _charts(self, job_id: str) -> tuple[list[Drawn], tuple[str, ...]]:
        """Metrics and losses as far as they are in the store, and what the run noted."""
        with tempfile.TemporaryDirectory(prefix="gankiln-ui-") as folder:
            out = Path(folder)
            if not live.fetch(self.queue, job_id, out, samples=0):
                return [], ()
            run, notes = read_run("", 0, out, ""), read_history(out).notes()
        drawn = [
            Chart(
                f"{meaning(metric).title}{f' in {features}' if features else ''}",
                (curves.line("", [(float(x), y) for x, y in curve]),),
                note="" if meaning(metric).better == "unknown" else f"{meaning(metric).better} is better",
            )
            for (metric, features), curve in run.curves.items()
            if len(curve) > 1
        ]
        for name, points in run.losses.items():
            line = curves.line(name, [(float(x), y) for x, y in points])
            drawn.append(Chart(f"Loss: {words.title(name)}", (line,), log=curves.suits_log((line,))))
        return [Drawn(chart) for chart in drawn if chart.has_points()], notes

    def _last_log(self, state: JobState) -> str:
        """The end of what the last attempt printed."""
        pieces = [stat.key for stat in self.queue.store.list(f"{state.attempt_prefix}/log/")]
        text = ""
        for key in reversed(pieces):
            text = self._text(key, 4_000_000) + text
            if len(text) > LONGEST_LOG_BYTES:
                break
        return tables.plain(text[-LONGEST_LOG_BYTES:])

    def _text(self, key: str, most_bytes: int) -> str:
        stat = self.queue.store.stat(key)
        if stat is None:
            return ""
        if stat.size_bytes > most_bytes:
            return f"({stat.size_bytes:,} bytes: too large to show)"
        with suppress(KeyNotFound):
            return self.queue.store.get(key).decode(errors="replace")
        return ""

    def _page(self, template: str, **values: Any) -> Answer:
        return Answer(self._templates.get_template(template).render({"refresh": REFRESH_SECONDS, **values}).encode())

    def _problem(self, status: HTTPStatus, title: str, message: str) -> Answer:
        values: Mapping[str, Any] = {"title": title, "message": message, "refresh": None}
        return Answer(self._templates.get_template("problem.html").render(values).encode(), status=status)


def _templates() -> jinja2.Environment:
    return environment(
        HERE,
        title_of=words.title,
        signed=signed,
        interval=interval,
        changes=shown,
        share=_share,
        when=lambda seconds: time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds else "",
    )


def _share(view: JobView) -> int | None:
    """Per cent of the images shown."""
    progress = view.heartbeat.progress if view.heartbeat else None
    if progress is None or not progress.total_images:
        return None
    return min(100, round(100 * progress.images / progress.total_images))
