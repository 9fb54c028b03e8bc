"""What changes the classifier's mind, for the page: the sheet cut into pictures, each with a probability under it."""

from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from jobs.report import embed, pictures, words
from jobs.report.embed import UnshowableError
from jobs.report.model import Explanation, write_atomically

HERE = Path(__file__).parent
PAGE = "explanation.html"


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture, and the probability of the shown class."""

    uri: str
    probability: float
    flipped: bool
    """Whether the classifier now says the other thing of the shown class than on the reconstruction."""


@dataclass(frozen=True, slots=True)
class Row:
    """An image, its reconstruction, and it with each coordinate moved: down, up."""

    said: str
    given: Cell
    rebuilt: Cell
    moved: tuple[tuple[Cell, Cell], ...]


def rows(out: Path, explanation: Explanation | None) -> list[Row]:
    """None where there is no sheet that can be shown."""
    if explanation is None:
        return []
    try:
        sheet = embed.open_picture(out, explanation.path)
    except UnshowableError:
        return []
    found = []
    for tiles, image in zip(pictures.tiles(sheet), explanation.images, strict=False):
        before = image.probabilities[1]
        cells = [
            Cell(embed.embed(tile).uri, probability, (probability > 0.5) != (before > 0.5))
            for tile, probability in zip(tiles, image.probabilities, strict=False)
        ]
        given, rebuilt, *moved = cells
        found.append(Row(image.said, given, rebuilt, tuple(zip(moved[0::2], moved[1::2], strict=True))))
    return found


def attributes(explanation: Explanation | None) -> tuple[str, ...]:
    """Names of the known attributes, where the data has any."""
    if explanation is None or not explanation.coordinates:
        return ()
    return tuple(explanation.coordinates[0].attributes)


def write_page(out: Path, name: str, explanation: Explanation) -> Path:
    """A page of its own in `out`, where the sheet is; opens from disk, without a network."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(figure=words.figure, count=words.count, percent=words.percent)
    page = environment.get_template("explanation_page.html").render(
        name=name,
        explanation=explanation,
        rows=rows(out, explanation),
        attributes=attributes(explanation),
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
    )
    write_atomically(out / PAGE, page.encode())
    return out / PAGE
