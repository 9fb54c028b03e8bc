"""What a report shows from the run directory: sample grids, findings with their evidence, nearest training images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.report import embed, pictures, words
from jobs.report.embed import Embedded, UnshowableError
from jobs.report.model import Level, Nearest, Report, Verdict

SEVERITY: dict[Level, int] = {"failure": 0, "warning": 1, "healthy": 2}
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True)
class Frame:
    """One sample grid of the slider."""

    images: int
    picture: Embedded


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the run directory, or why it cannot be shown."""

    caption: str
    uri: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with its picture and how it was before."""

    verdict: Verdict
    picture: Shown | None
    numbers: dict[str, Any]
    sentence: str
    before: str


@dataclass(frozen=True, slots=True)
class NeighbourRow:
    """A sample and its nearest training images."""

    sample: str
    neighbours: tuple[tuple[str, float | None, str], ...]


def findings(out: Path, report: Report) -> list[Finding]:
    """The latest verdict of each detector, failures first."""
    by_detector: dict[str, list[Verdict]] = {}
    for verdict in sorted(report.verdicts, key=lambda verdict: verdict.images or 0):
        by_detector.setdefault(verdict.detector, []).append(verdict)
    latest = [_finding(out, verdicts) for verdicts in by_detector.values()]
    return sorted(latest, key=lambda finding: (SEVERITY[finding.verdict.verdict], finding.verdict.detector))


def _finding(out: Path, verdicts: list[Verdict]) -> Finding:
    now = verdicts[-1]
    first_bad = next((verdict for verdict in verdicts if verdict.verdict != "healthy"), None)
    before = ""
    if first_bad and first_bad is not now:
        before = f"{first_bad.verdict} since {words.count(first_bad.images)} images"
        if now.verdict == "healthy":
            before = f"was a {first_bad.verdict} at {words.count(first_bad.images)} images"
    evidence = now.evidence
    is_picture = isinstance(evidence, str) and evidence.lower().endswith(PICTURE_SUFFIXES)
    return Finding(
        verdict=now,
        picture=picture(out, str(evidence), f"Evidence: {now.detector}") if is_picture else None,
        numbers=evidence if isinstance(evidence, dict) else {},
        sentence=evidence if isinstance(evidence, str) and not is_picture else "",
        before=before,
    )


def picture(out: Path, path: str, caption: str) -> Shown:
    try:
        return Shown(caption, embed.embed(embed.open_picture(out, path)).uri)
    except UnshowableError as problem:
        return Shown(caption, problem=str(problem))


def frames(out: Path, report: Report) -> tuple[list[Frame], list[str]]:
    """At most 24 sample grids, evenly over time, and what could not be shown."""
    chosen = embed.spread(report.samples, embed.MOST_FRAMES)
    shown, missing = [], []
    for sample in chosen:
        try:
            picture = embed.open_picture(out, sample.path)
            shown.append(Frame(sample.images, embed.embed(picture, embed.FRAMES_BUDGET_BYTES // len(chosen))))
        except UnshowableError as problem:
            missing.append(str(problem))
    return shown, missing


def nearest_rows(out: Path, nearest: Nearest | None) -> list[NeighbourRow]:
    if nearest is None:
        return []
    try:
        sheet = embed.open_picture(out, nearest.path)
    except UnshowableError:
        return []
    rows = pictures.tiles(sheet, nearest.tile, nearest.gap)
    return [
        NeighbourRow(
            embed.embed(tiles[0]).uri,
            tuple(
                (embed.embed(tile).uri, distance, name)
                for tile, distance, name in zip(
                    tiles[1:], row.distances, (*row.neighbours, *[""] * len(row.distances)), strict=False
                )
            ),
        )
        for tiles, row in zip(rows, nearest.rows, strict=False)
    ]
