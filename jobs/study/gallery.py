"""Sample grids of all variants side by side: the same images shown, the same seed and so the same latents."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from jobs.report import embed
from jobs.report.embed import Embedded, UnshowableError
from jobs.report.pictures import Tiling
from jobs.study.results import RunResult

MOST_MOMENTS = 4
MOST_TILES = 32
PICTURE_BYTES = 110_000


@dataclass(frozen=True)
class Row:
    """One moment, or one seed: a picture a variant, None where it has none."""

    label: str
    pictures: tuple[Embedded | None, ...]


@dataclass(frozen=True)
class Gallery:
    """The pictures of the page."""

    seed: int | None
    names: tuple[str, ...]
    moments: tuple[Row, ...]
    """Over images shown, all with one seed."""
    seeds: tuple[Row, ...]
    """The last moment with every other seed."""


def gallery(names: Sequence[str], seeds: Sequence[int], results: Sequence[RunResult]) -> Gallery:
    """At most four moments that all variants have in common, the last among them."""
    by_run = {(result.variant, result.seed): result for result in results if result.samples}
    seed = next((seed for seed in seeds if any((name, seed) in by_run for name in names)), None)
    if seed is None:
        return Gallery(None, (), (), ())
    shown = tuple(name for name in names if (name, seed) in by_run)
    moments = tuple(
        Row(f"{images:,} images", tuple(_picture(by_run[name, seed], images) for name in shown))
        for images in _moments([by_run[name, seed] for name in shown])
    )
    others = [other for other in seeds if other != seed and any((name, other) in by_run for name in shown)]
    rows = tuple(Row(f"seed {other}", tuple(_last(by_run.get((name, other))) for name in shown)) for other in others)
    return Gallery(seed, shown, moments, rows)


def _moments(results: Sequence[RunResult]) -> list[int]:
    """Images shown at which every run has a grid; the untrained one is the same for all and left out."""
    common = set.intersection(*({sample.images for sample in result.samples} for result in results)) - {0}
    return embed.spread(sorted(common), MOST_MOMENTS)


def _last(result: RunResult | None) -> Embedded | None:
    return _picture(result, max(sample.images for sample in result.samples)) if result else None


def _picture(result: RunResult, images: int) -> Embedded | None:
    path = next((sample.path for sample in result.samples if sample.images == images), None)
    if path is None or result.out is None:
        return None
    try:
        return embed.embed(_some_rows(embed.open_picture(result.out, path)), PICTURE_BYTES)
    except UnshowableError:
        return None


def _some_rows(sheet: Image.Image) -> Image.Image:
    """The first rows of a sheet, whole: in some systems a row belongs together."""
    tiling = Tiling.of(sheet)
    if tiling is None or tiling.count <= MOST_TILES:
        return sheet
    rows = max(1, MOST_TILES // tiling.columns)
    bottom = tiling.box(rows * tiling.columns - 1)[3]
    return sheet.crop((0, 0, sheet.width, bottom))
