"""report.html: one file that opens from disk or a bucket, with no network, and says first what a person asks first."""

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from jobs.report import charts, metrics, shown, words
from jobs.report.history import History, read_history
from jobs.report.model import Report, ReportFacts, write_atomically

HERE = Path(__file__).parent
REPORT_JSON, REPORT_HTML, SPEC = "report.json", "report.html", "spec.yaml"
LONGEST_SPEC = 200_000
SHOWN_APART = ("parameters", "precision")


def write_report(out: Path, facts: ReportFacts) -> Path:
    """Writes report.json and report.html into the run directory `out`; returns the path of the page.

    May be called as often as there is something new to say: at every evaluation, and at the end. A picture that is
    missing or broken is named on the page and never stops it.
    """
    history = read_history(out)
    complete(facts, history).write_json(out / REPORT_JSON)
    return render(out)


def render(out: Path) -> Path:
    """Writes report.html anew from report.json, events.jsonl, spec.yaml and the pictures in `out`."""
    report = Report.load(out / REPORT_JSON)
    page = _page(out, report, read_history(out))
    write_atomically(out / REPORT_HTML, page.encode())
    return out / REPORT_HTML


def complete(facts: ReportFacts, history: History) -> Report:
    """`facts` with what the run directory adds to them."""
    known = {name: getattr(facts, name) for name in ReportFacts.model_fields}
    waiting = [value for _, value in history.scalar("waiting_ratio") if value is not None]
    known["attempts"] = facts.attempts or history.attempts
    known["notes"] = tuple(dict.fromkeys((*facts.notes, *history.notes())))
    known["trust"] = tuple(dict.fromkeys((*facts.trust, *metrics.trust(facts.metrics))))
    known["effective"] = _effective(facts)
    if facts.waiting_ratio is None and waiting:
        known["waiting_ratio"] = sum(waiting) / len(waiting)
    return Report(**known, written=time.time(), samples=history.samples(), checkpoints=history.checkpoints())


def _effective(facts: ReportFacts) -> dict[str, Any]:
    """report.json promises these in `effective`, wherever the run said them."""
    said: dict[str, Any] = {
        "parameters": facts.parameters or None,
        "precision": facts.precision.value if facts.precision else None,
        "accumulation": facts.accumulation,
    }
    return {**{name: value for name, value in said.items() if value is not None}, **facts.effective}


def _page(out: Path, report: Report, history: History) -> str:
    script = (HERE / "report.js").read_text(encoding="utf-8")
    opening = metrics.headline(report.metrics, report.headline)
    frames, missing = shown.frames(out, report)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=words.figure,
        count=words.count,
        duration=words.duration,
        percent=words.percent,
        size=words.size,
        title=words.title,
        plural=words.plural,
        when=_when,
        shown=_plain,
        meaning=metrics.meaning,
        interval=metrics.interval,
        measured_on=metrics.measured_on,
    )
    return environment.get_template("template.html").render(
        report=report,
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        headline=opening,
        tiles=metrics.companions(report.metrics, opening),
        table=metrics.table(report.metrics),
        effective=_flat({name: value for name, value in report.effective.items() if name not in SHOWN_APART}),
        commands=report.commands or (f"gankiln run {SPEC} --out {report.name}",),
        findings=shown.findings(out, report),
        frames=frames,
        missing_frames=missing,
        loss_charts=charts.losses(history, report),
        metric_charts=charts.measured(report),
        statistic_charts=charts.statistics(history, report),
        speed_charts=charts.speed(history, report),
        nearest=shown.nearest_rows(out, report.nearest),
        extra_pictures=[shown.picture(out, picture.path, picture.caption) for picture in report.pictures],
        mode_map=charts.mode_map(report.modes),
        spec=_spec(out),
    )


def _spec(out: Path) -> str:
    path = out / SPEC
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if len(text) <= LONGEST_SPEC else f"{text[:LONGEST_SPEC]}\n# ... cut here: {len(text):,} characters"


def _flat(values: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Nested values by their dotted paths, in order."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{path}{name}.") if isinstance(value, dict) else [(f"{path}{name}", value)]
    return pairs


def _when(seconds: float | None) -> str:
    """Unix seconds as UTC, to the minute."""
    return words.NO_VALUE if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _plain(value: Any) -> str:
    """Any value of a spec, as it would be written in one."""
    match value:
        case bool() | None:
            return json.dumps(value)
        case float():
            return f"{value:.6g}"
        case int():
            return words.count(value)
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
