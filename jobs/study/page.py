"""study.html: one file without a network. First the answer in a sentence, then what it rests on."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from jobs.report.metrics import meaning
from jobs.report.templates import environment
from jobs.spec.variants import shown
from jobs.study import drawings, sentences
from jobs.study.gallery import gallery
from jobs.study.model import StudyReport
from jobs.study.results import RunResult

HERE = Path(__file__).parent
REPORTS = HERE.parent / "report"


def page(report: StudyReport, results: Sequence[RunResult]) -> str:
    """The page; everything in it that a spec or a run said is escaped."""
    script = (REPORTS / "report.js").read_text(encoding="utf-8")
    style = "".join(path.read_text(encoding="utf-8") for path in (REPORTS / "report.css", HERE / "study.css"))
    names = drawings.drawn_variants(report)
    charts = drawings.metric_charts(report, results)
    return (
        _templates()
        .get_template("study_template.html")
        .render(
            report=report,
            style=Markup(style),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704 - our own file
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            primary=sentences.metric_name(report.metric, report.features),
            bars=drawings.forest([row.primary for row in report.variants]),
            legend=drawings.legend(names),
            gallery=gallery(names, report.seeds, results),
            opening=charts.pop((report.metric, report.features), None),
            charts=list(charts.values()),
            losses=drawings.loss_charts(report, results),
            plots=drawings.parameter_plots(report.search, report.better) if report.search else {},
            others=_others(report),
            detectors=_detectors(report),
        )
    )


def _templates() -> jinja2.Environment:
    return environment(HERE, signed=sentences.signed, changes=shown, interval=sentences.interval)


def _others(report: StudyReport) -> list[dict[str, Any]]:
    """Every other metric: a line with the difference of each variant."""
    keys = dict.fromkeys((e.metric, e.features) for row in report.variants for e in row.others)
    return [
        {
            "title": meaning(metric).title,
            "features": features,
            "better": meaning(metric).better,
            "estimates": [
                next((e for e in row.others if (e.metric, e.features) == (metric, features)), None)
                for row in report.variants[1:]
            ],
        }
        for metric, features in keys
    ]


def _detectors(report: StudyReport) -> list[tuple[str, list[dict[str, int]]]]:
    """Every detector that was not healthy somewhere: what it said, variant by variant."""
    names = sorted(
        {name for row in report.variants for name, levels in row.verdicts.items() if set(levels) - {"healthy"}}
    )
    return [(name, [row.verdicts.get(name, {}) for row in report.variants]) for name in names]
