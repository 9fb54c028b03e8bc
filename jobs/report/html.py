"""report.html: one file that opens from disk or a bucket, with no network, and says first what a person asks first."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jobs.report import charts, embed, explained, metrics, shown, words
from jobs.report.history import History, read_history
from jobs.report.model import MetricRow, Report, ReportFacts, write_atomically
from jobs.report.templates import environment

HERE = Path(__file__).parent
REPORT_JSON, REPORT_HTML, SPEC = "report.json", "report.html", "spec.yaml"
LONGEST_SPEC = 200_000
SHOWN_APART = ("parameters", "precision")


def write_report(out: Path, facts: ReportFacts) -> Path:
    """Writes report.json and report.html into the run directory `out`; returns the path of the page.

    May be called as often as there is something new to say: at every evaluation, and at the end. A picture that is
    missing or broken is named on the page and never stops it.
    """
    complete(out, facts, read_history(out)).write_json(out / REPORT_JSON)
    return render(out)


def render(out: Path) -> Path:
    """Writes report.html anew from report.json, events.jsonl, spec.yaml and the pictures in `out`."""
    report = Report.load(out / REPORT_JSON)
    page = _page(out, report, read_history(out))
    write_atomically(out / REPORT_HTML, page.encode())
    return out / REPORT_HTML


def complete(out: Path, facts: ReportFacts, history: History) -> Report:
    """`facts` with what the run directory adds to them. Where both speak of the same moment, the facts are right."""
    known = {name: getattr(facts, name) for name in ReportFacts.model_fields}
    rows = {_moment(row): row for row in (*history.evaluations(), *facts.metrics)}
    verdicts = {(verdict.detector, verdict.images): verdict for verdict in (*history.verdicts(), *facts.verdicts)}
    known["metrics"] = tuple(rows.values())
    known["verdicts"] = tuple(verdicts.values())
    known["attempts"] = facts.attempts or history.attempts
    known["notes"] = tuple(dict.fromkeys((*facts.notes, *history.notes())))
    known["trust"] = tuple(dict.fromkeys((*facts.trust, *metrics.trust(known["metrics"]))))
    known["profile"] = facts.profile or history.profile()
    known["effective"] = _effective(facts)
    known.update({name: value for name, value in _idleness(facts, history).items() if known[name] is None})
    kept = tuple(checkpoint for checkpoint in history.checkpoints() if embed.holds(out, checkpoint.path))
    return Report(**known, written=time.time(), samples=history.samples(), checkpoints=kept)


def _idleness(facts: ReportFacts, history: History) -> dict[str, float | None]:
    """How much of the time was not spent in steps; where only progress events speak of it, what they say."""
    seconds = facts.time_seconds
    steps, waiting, total = seconds.get("training", 0.0), seconds.get("waiting", 0.0), sum(seconds.values())
    if not steps:
        said = [value for _, value in history.scalar("waiting_ratio") if value is not None]
        return {"waiting_ratio": sum(said) / len(said) if said else None}
    return {
        "waiting_ratio": waiting / (steps + waiting),
        "idle_ratio": 1 - steps / total,
        "idle_ratio_without_evaluation": 1 - steps / (total - seconds.get("evaluation", 0.0)),
    }


def _moment(row: MetricRow) -> tuple[object, ...]:
    """What makes two rows the same measurement; a comparison of known answer belongs to no moment of training."""
    images = row.images if row.label in (metrics.TRAINED, metrics.UNTRAINED) else None
    return row.metric, row.features, metrics.compared(row), images, row.samples


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
    opening_key = (opening.any.metric, opening.any.features) if opening else None
    drawn = charts.measured(report, opening_key)
    opening_chart = drawn.pop(opening_key, None) if opening_key else None
    templates = environment(
        HERE,
        percent=words.percent,
        size=words.size,
        named=shown.named,
        shown=_plain,
        breakable=_breakable,
        meaning=metrics.meaning,
        interval=metrics.interval,
        measured_on=metrics.measured_on,
    )
    return templates.get_template("template.html").render(
        report=report,
        sections=_sections(report),
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        headline=opening,
        tiles=metrics.companions(report.metrics, opening),
        table=metrics.table(report.metrics),
        effective=_flat({name: value for name, value in report.effective.items() if name not in SHOWN_APART}),
        commands=report.commands or _commands(report),
        findings=shown.findings(out, report),
        film=shown.film(out, report),
        loss_charts=charts.losses(history, report),
        opening_chart=opening_chart,
        metric_charts=_by_space(drawn),
        statistic_charts=charts.statistics(history, report),
        speed_charts=charts.speed(history, report),
        nearest=shown.nearest_rows(out, report.nearest),
        time_shares=_time_shares(report.time_seconds),
        explained_rows=explained.rows(out, report.explanation),
        explained_attributes=explained.attributes(report.explanation),
        extra_pictures=[shown.picture(out, picture.path, picture.caption) for picture in report.pictures],
        mode_map=charts.mode_map(report.modes),
        spec=_spec(out),
    )


def _time_shares(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    """What the time from the first to the last step was spent on, largest share first."""
    total = sum(seconds.values())
    said = {"training": "training", "waiting": "waiting for data"}
    shares = [(said.get(what, f"on {what}"), value / total) for what, value in seconds.items()] if total > 0 else []
    return sorted(shares, key=lambda share: -share[1])


def _spec(out: Path) -> str:
    path = out / SPEC
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if len(text) <= LONGEST_SPEC else f"{text[:LONGEST_SPEC]}\n# ... cut here: {len(text):,} characters"


def _sections(report: Report) -> list[tuple[str, str]]:
    """The page's sections by their anchors; those with nothing to say are left out."""
    return [
        ("good", "How good"),
        ("healthy", "Healthy"),
        ("look", "Samples"),
        ("curves", "Curves"),
        *([("metrics", "Metrics")] if report.metrics else []),
        *([("modes", "Modes")] if report.modes else []),
        *([("nearest", "Nearest")] if report.nearest else []),
        *([("explanation", "Explanation")] if report.explanation else []),
        ("effective", "In force"),
        ("attempts", "Attempts"),
        *([("profile", "Profile")] if report.profile else []),
        ("data", "Data"),
        ("again", "Reproduce"),
    ]


def _by_space(drawn: dict[metrics.Key, charts.Drawn]) -> dict[str, list[charts.Drawn]]:
    """Metric charts by feature space, the most telling space first."""
    spaces: dict[str, list[charts.Drawn]] = {}
    for space in metrics.spaces_of(features for _, features in drawn):
        spaces[space] = [chart for (_, features), chart in drawn.items() if (features or "") == space]
    return spaces


def _commands(report: Report) -> tuple[str, ...]:
    """How to get this run again, from its directory's spec.yaml; and how to draw from what it left."""
    again = f"gankiln run {SPEC} --out {report.name}-again"
    return (again, *[f"gankiln sample {checkpoint.path}" for checkpoint in report.checkpoints[-1:]])


def _flat(values: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Nested values by their dotted paths, in order."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{path}{name}.") if isinstance(value, dict) else [(f"{path}{name}", value)]
    return pairs


def _breakable(name: str) -> Markup:
    """A long name that may be broken after `_` and `.`."""
    return Markup("<wbr>").join(re.findall(r"[^_.]*[_.]|[^_.]+", name))


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
        case list() if not any(isinstance(inner, list | dict) for inner in value):
            return f"[{', '.join(_plain(inner) for inner in value)}]"
        case _:
            return json.dumps(value, ensure_ascii=False)
