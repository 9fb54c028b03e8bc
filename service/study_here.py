"""Studies at the command line: the table before anything starts, a study run here, its comparison."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.errors import Interrupted
from jobs.events import Event
from jobs.spec.variants import LoadedStudy, StudyRun, planned_images, planned_runs, shown
from service import settings, stopping, tables
from service.terminal import open_terminal

MOST_ROWS = 60
"""Runs that a printed plan shows; `--json` has all."""


def study_plan(study: LoadedStudy) -> dict[str, Any]:
    """The plan of a study as plain values."""
    search = study.study.search
    return {
        "name": study.name,
        "question": study.question,
        "primary": {"metric": study.primary.metric, "features": study.primary.features, "better": study.primary.better},
        "seeds": list(study.seeds),
        "variants": [
            {
                "name": variant.name,
                "changes": dict(variant.changes),
                "differences": {path: list(pair) for path, pair in variant.differences(study.baseline).items()},
            }
            for variant in study.variants
        ],
        "runs": [
            {
                "variant": run.variant,
                "seed": run.seed,
                "images": run.loaded.job.training.images,
                "fingerprint": run.fingerprint,
            }
            for run in study.runs
        ],
        "search": search.model_dump(mode="json") if search else None,
        "planned_runs": planned_runs(study),
        "planned_images": planned_images(study),
        "budget": study.study.budget.model_dump(mode="json"),
    }


def print_study_plan(study: LoadedStudy, *, as_json: bool) -> None:
    """The table of variants with what each changes, also what changes along with it; and the cost of it all."""
    facts = study_plan(study)
    if as_json:
        tables.print_json(facts)
        return
    primary, search = study.primary, study.study.search
    features = f" in {primary.features}" if primary.features else ""
    seeds = ", ".join(str(seed) for seed in study.seeds)
    tables.print_lines(
        f"study {study.name}: {len(study.variants)} variants, seeds {seeds}; judged by {primary.metric}{features}, "
        f"{primary.better} is better",
        *([f"question: {study.question}"] if study.question else []),
        "",
    )
    rows = [
        (
            variant.name,
            shown(variant.changes),
            _along(study, index),
            f"{variant.loaded.job.training.images:,}",
        )
        for index, variant in enumerate(study.variants[:MOST_ROWS])
    ]
    tables.print_table(("variant", "changes", "and, derived", "images"), rows)
    if search:
        space = "; ".join(f"{path}: {_space(values)}" for path, values in facts["search"]["space"].items())
        tables.print_lines(
            "",
            f"search: {search.trials} trials with seed {study.written.seed} over {space}; prune: {search.prune}; then "
            f"the best {search.finalists} with the seeds above",
        )
    tables.print_lines("", f"{'at most ' if search else ''}{facts['planned_runs']:,} runs, {_images(facts)}")


def _along(study: LoadedStudy, index: int) -> str:
    """What a variant changes without saying so: a default or a formula that follows from its changes."""
    variant = study.variants[index]
    found = variant.differences(study.baseline)
    return ", ".join(
        f"{path}: {before} -> {after}" for path, (before, after) in found.items() if path not in variant.changes
    )


def _space(values: Any) -> str:
    if isinstance(values, list):
        return ", ".join(str(value) for value in values)
    return f"{values['low']:g} to {values['high']:g}{' (log)' if values['log'] else ''}"


def _images(facts: dict[str, Any]) -> str:
    budget = facts["budget"]
    text = f"{facts['planned_images']:,} images in all"
    if budget["images"]:
        text += f" (budget {budget['images']:,})"
    return text + (f", stopped after {budget['gpu_hours']:g} hours of training" if budget["gpu_hours"] else "")


def run_study_here(
    study: LoadedStudy,
    out: Path,
    *,
    roots: tuple[Path, list[Path] | None],
    cache_dir: Path | None,
    weights_dir: Path | None,
) -> None:
    """`gankiln run STUDY`: runs the study in the directory `out`, one run after another.

    `roots`: where relative paths begin, and where data may be read (None: anywhere).
    """
    stopping.listen()

    from jobs.data import Roots
    from jobs.run import Surroundings
    from jobs.run import run as train_job
    from jobs.study import StudyReport, conduct

    configured = settings.load()
    relative_to, allowed = roots

    def train(run: StudyRun, folder: Path, watch: Callable[[Event], None], given_up: Callable[[], bool]) -> None:
        if stopping.asked():
            raise Interrupted
        tables.print_lines(f"{run.variant}, seed {run.seed}: {folder}")
        with open_terminal(run.loaded.job.training.images) as terminal:

            def see(event: Event) -> None:
                terminal.show(event)
                watch(event)

            around = Surroundings(
                out=folder,
                cache_dir=cache_dir or configured.cache_dir,
                roots=Roots(relative_to, None if allowed is None else tuple(allowed)),
                weights_dir=weights_dir or configured.weights,
                should_stop=lambda: stopping.asked() or given_up(),
                watch=see,
                progress_seconds=terminal.progress_seconds,
            )
            train_job(run.loaded, around)
        gc.collect()  # networks of one run must not stand in the memory of the next

    def tell(report: StudyReport) -> None:
        ended = sum(count for state, count in report.runs.items() if state in ("finished", "pruned", "failed"))
        tables.print_lines(f"{ended} of {sum(report.runs.values())} runs: {report.answer}")

    print_comparison(conduct(study, out, train, tell), out, as_json=False)


def compare_directory(out: Path, *, as_json: bool) -> None:
    """`gankiln compare DIR`: the comparison of what lies there, also while it runs."""
    from jobs.study import compare_here, load_here

    print_comparison(compare_here(load_here(out), out), out, as_json=as_json)


def compare_in_store(study: str, store: str | None, out: Path | None, *, as_json: bool) -> None:
    """`gankiln compare STUDY` of a study that was submitted: as it stands at this moment."""
    from service.connect import connect
    from service.studies import Studies

    studies = Studies(connect(store).queue)
    standing = studies.standing(studies.find(study))
    report = studies.write(standing, out) if out else standing.report()
    print_comparison(report, out, as_json=as_json)


def print_comparison(report: Any, out: Path | None, *, as_json: bool) -> None:
    """The answer, and the table that it rests on."""
    from jobs.study.write import cells

    if as_json:
        tables.print_json(report)
        return
    if report.question:
        tables.print_lines(report.question)
    tables.print_lines(report.answer, "")
    columns = ("variant", "changes", report.metric, "seeds", "difference (95 %)", "wins", "effect", "verdict", "time")
    tables.print_table(columns, [cells(row) for row in report.variants])
    tables.print_lines("", *(f"{row.name}: {row.sentence}" for row in report.variants[1:]))
    tables.print_lines(*(f"note: {note}" for note in report.notes))
    if out is not None:
        tables.print_lines(f"comparison: {out / 'study.html'}, study.json, study.md, study.csv, runs.csv")
