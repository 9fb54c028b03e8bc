"""The comparison as files: study.json for programs, CSV for spreadsheets, Markdown for diaries."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jobs.report.model import write_atomically
from jobs.report.words import duration, figure
from jobs.spec.variants import shown
from jobs.study import sentences
from jobs.study.model import Estimate, StudyReport, VariantRow
from jobs.study.page import page
from jobs.study.results import RunResult

JSON, HTML, CSV, RUNS_CSV, MARKDOWN = "study.json", "study.html", "study.csv", "runs.csv", "study.md"


def write_comparison(out: Path, report: StudyReport, results: Sequence[RunResult]) -> Path:
    """Writes every form of the comparison into `out`; returns the path of study.json, written last.

    Curves and pictures come from the run directories that `results` name.
    """
    write_atomically(out / HTML, page(report, results).encode())
    write_atomically(out / CSV, _csv(_estimate_lines(report)))
    write_atomically(out / RUNS_CSV, _csv(_run_lines(report, results)))
    write_atomically(out / MARKDOWN, markdown(report).encode())
    text = json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(out / JSON, f"{text}\n".encode())
    return out / JSON


def markdown(report: StudyReport) -> str:
    """The question, the answer, the table."""
    direction = f"{sentences.metric_name(report.metric, report.features)}, {report.better} is better"
    lines = [f"# {report.name}", "", *([report.question, ""] if report.question else []), report.answer, ""]
    head = ("variant", "changes", direction, "seeds", "difference (95 %)", "wins", "effect", "verdict", "time")
    lines += [_line(head), _line(["---"] * len(head))]
    lines += [_line(cells(row)) for row in report.variants]
    if report.search:
        lines += ["", _line(("trial", "values", "value", "images", "state")), _line(["---"] * 5)]
        lines += [
            _line((str(trial.number), shown(trial.values), figure(trial.value), f"{trial.images:,}", trial.state))
            for trial in report.search.trials
        ]
    if report.notes:
        lines += ["", *(f"- {note}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def cells(row: VariantRow) -> tuple[str, ...]:
    """One line of the table of variants."""
    spread = f" ± {figure(row.deviation, 2)}" if row.deviation is not None else ""
    ended = sum(run.value is not None for run in row.runs)
    return (
        row.name,
        shown(row.changes),
        f"{figure(row.mean)}{spread}",
        f"{ended} of {len(row.runs)}",
        *_compared(row.primary),
        duration(row.seconds),
    )


def _compared(estimate: Estimate | None) -> tuple[str, str, str, str]:
    if estimate is None:
        return "", "", "", ""
    size = sentences.signed(estimate.difference)
    interval = sentences.interval(estimate)
    return (
        f"{size} ({interval})" if interval else size,
        "" if estimate.wins is None else f"{estimate.wins} of {estimate.seeds}",
        "" if estimate.effect is None else figure(estimate.effect, 2),
        estimate.side,
    )


def _line(values: Iterable[str]) -> str:
    return f"| {' | '.join(value.replace('|', chr(92) + '|').replace(chr(10), ' ') for value in values)} |"


def _estimate_lines(report: StudyReport) -> list[dict[str, Any]]:
    """One line a variant and metric."""
    return [
        {"variant": row.name, "changes": shown(row.changes), **estimate.model_dump()}
        for row in report.variants
        for estimate in filter(None, (row.primary, *row.others))
    ]


def _run_lines(report: StudyReport, results: Sequence[RunResult]) -> list[dict[str, Any]]:
    """One line a run and metric: everything the comparison is made from."""
    return [
        {
            "variant": result.variant, "seed": result.seed, "state": result.state, "place": result.place,
            "metric": metric, "features": features or "", "images": images, "value": value,
            "seconds": result.seconds,
        }
        for result in results
        for (metric, features), curve in result.curves.items()
        for images, value in curve
    ]  # fmt: skip


def _csv(lines: Sequence[dict[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(lines[0]) if lines else ["variant"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue().encode()
