"""What a report shows from the run directory: sample grids, findings with their evidence, nearest training images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from jobs.report import embed, pictures, words
from jobs.report.embed import Embedded, UnshowableError
from jobs.report.model import Level, Nearest, NearestRow, Report, Verdict

SEVERITY: dict[Level, int] = {"failure": 0, "warning": 1, "healthy": 2}
REAL, NEAREST = "real.png", "nearest.png"
STRIP_COLUMNS, STRIP_ROWS = 9, 3
MOST_NAMED = 3
FILM_SUFFIX = ".mp4"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True)
class Frame:
    """One sample grid of the slider."""

    images: int
    picture: Embedded


@dataclass(frozen=True, slots=True)
class Film:
    """The sample grids over time, some samples of all of them side by side, real images, what could not be shown."""

    frames: tuple[Frame, ...] = ()
    strip: Embedded | None = None
    strip_images: tuple[int, ...] = ()
    real: Embedded | None = None
    problems: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What the frames take of the page."""
        return sum(len(frame.picture.uri) for frame in self.frames)


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the run directory, or why it cannot be shown."""

    caption: str
    uri: str = ""
    problem: str = ""
    is_film: bool = False
    is_wide: bool = False
    """Rows of many tiles: small ones would show nothing."""


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


def named(found: Sequence[Finding], level: Level) -> str:
    """Which detectors say `level`; the first few by name."""
    names = [words.title(finding.verdict.detector).lower() for finding in found if finding.verdict.verdict == level]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _finding(out: Path, verdicts: list[Verdict]) -> Finding:
    now = verdicts[-1]
    evidence = now.evidence
    is_picture = isinstance(evidence, str) and evidence.lower().endswith(PICTURE_SUFFIXES)
    return Finding(
        verdict=now,
        picture=picture(out, str(evidence), f"Evidence: {now.detector}") if is_picture else None,
        numbers=evidence if isinstance(evidence, dict) else {},
        sentence=evidence if isinstance(evidence, str) and not is_picture else "",
        before=_before(verdicts),
    )


def _before(verdicts: list[Verdict]) -> str:
    """How the same detector judged earlier, where that is worth a word."""
    now = verdicts[-1]
    if now.verdict == "healthy":
        bad = next((verdict for verdict in verdicts if verdict.verdict != "healthy"), None)
        return f"was a {bad.verdict} at {words.count(bad.images)} images" if bad else ""
    streak = list(takewhile(lambda verdict: verdict.verdict != "healthy", reversed(verdicts)))
    return f"not healthy since {words.count(streak[-1].images)} images" if len(streak) > 1 else ""


def picture(out: Path, path: str, caption: str) -> Shown:
    """A picture, or a film if its name ends so."""
    try:
        if path.lower().endswith(FILM_SUFFIX):
            return Shown(caption, embed.embed_film(out, path), is_film=True)
        opened = embed.open_picture(out, path)
        return Shown(caption, embed.embed(opened).uri, is_wide=opened.width > 2 * opened.height)
    except UnshowableError as problem:
        return Shown(caption, problem=str(problem))


def film(out: Path, report: Report) -> Film:
    """At most 24 sample grids, evenly over time."""
    chosen = embed.spread(report.samples, embed.MOST_FRAMES)
    grids: list[tuple[int, Image.Image]] = []
    problems = []
    for sample in chosen:
        try:
            grids.append((sample.images, embed.open_picture(out, sample.path)))
        except UnshowableError as problem:
            problems.append(str(problem))
    if not grids:
        return Film(problems=tuple(problems))
    each_bytes = embed.FRAMES_BUDGET_BYTES // len(chosen)
    frames = [Frame(images, embed.embed(grid, each_bytes)) for images, grid in grids[:-1]]
    frames.append(Frame(grids[-1][0], embed.embed(grids[-1][1])))
    columns = embed.spread(grids, STRIP_COLUMNS)
    strip = pictures.through_time([grid for _, grid in columns], STRIP_ROWS) if len(columns) > 1 else None
    return Film(
        tuple(frames),
        embed.embed(strip) if strip else None,
        tuple(images for images, _ in columns),
        _real(out),
        tuple(problems),
    )


def _real(out: Path) -> Embedded | None:
    """The grid of real images that a run leaves beside its samples, if it did."""
    try:
        return embed.embed(embed.open_picture(out, REAL))
    except UnshowableError:
        return None


def nearest_rows(out: Path, nearest: Nearest | None) -> list[NeighbourRow]:
    if nearest is None:
        return []
    try:
        sheet = embed.open_picture(out, nearest.path)
    except UnshowableError:
        return []
    rows = pictures.tiles(sheet)
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


def write_nearest(
    out: Path,
    sample_NCHW: pictures.Images,
    neighbour_NKCHW: pictures.Images,
    distance_NK: npt.NDArray[np.floating],
    *,
    features: str,
    names_NK: Sequence[Sequence[object]] = (),
    typical_distance: float | None = None,
) -> Nearest:
    """Writes the samples beside their K nearest training images as `nearest.png`; returns what the report needs."""
    pictures.write_png(out / NEAREST, pictures.neighbour_sheet(sample_NCHW, neighbour_NKCHW))
    names = [tuple(str(name) for name in row) for row in names_NK] or [()] * len(distance_NK)
    rows = [
        NearestRow(distances=tuple(row), neighbours=of) for row, of in zip(distance_NK.tolist(), names, strict=True)
    ]
    return Nearest(path=NEAREST, features=features, rows=tuple(rows), typical_distance=typical_distance)
