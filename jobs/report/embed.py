"""Pictures inside the page: data URIs within a budget of bytes, so that the report stays one file one can mail."""

import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from jobs.report import pictures

T = TypeVar("T")

MOST_FRAMES = 24
FRAMES_BUDGET_BYTES = 3_000_000
"""All frames of the slider together, before base64 makes a third more of them; the latest may add a picture's own."""
PICTURE_BUDGET_BYTES = 700_000
FILM_BUDGET_BYTES = 2_000_000
"""A longer film stays in the run directory."""
LARGEST_SIDES = (1280, 1024, 768, 512, 320)
MOST_PIXEL_ART = 600
"""Pictures wider than this are shown smoothly."""
LARGEST_PIXELS = 64_000_000
"""A larger picture is not opened: it is no sample grid, and decoding it could take all memory."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture as a data URI, with its size in pixels; `exact` if a pixel should stay a sharp square on the page."""

    uri: str
    width: int
    height: int
    exact: bool


class UnshowableError(Exception):
    """This picture cannot be shown; the message says why."""


def inside(out: Path, path: str) -> Path:
    """The file `path` in the run directory `out`; refuses what leads out of it."""
    try:
        file = (out / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise UnshowableError(f"{path}: {error}") from error
    if not file.is_relative_to(out.resolve()):
        raise UnshowableError(f"{path}: leads out of the run directory")
    return file


def holds(out: Path, path: str) -> bool:
    """Whether the run directory `out` has something at `path`."""
    try:
        return inside(out, path).exists()
    except UnshowableError:
        return False


def open_picture(out: Path, path: str) -> Image.Image:
    """The picture at `path` in `out`, decoded."""
    file = inside(out, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decoded(file, path)
    except FileNotFoundError:
        raise UnshowableError(f"{path}: is not in the run directory") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnshowableError(f"{path}: {error}") from error


def _decoded(file: Path, path: str) -> Image.Image:
    with Image.open(file) as picture:
        if picture.width * picture.height > LARGEST_PIXELS:
            raise UnshowableError(f"{path}: {picture.width} x {picture.height} pixels are too many to show")
        picture.load()
        return picture.copy()


def embed(picture: Image.Image, budget_bytes: int = PICTURE_BUDGET_BYTES) -> Embedded:
    """`picture` in about `budget_bytes`: lossless if that fits, else lossy, and smaller if it must be."""
    small = pictures.reduce(picture)[0]
    exact = small.width <= MOST_PIXEL_ART
    content = _webp(small, lossless=True)
    for side in (max(small.size), *LARGEST_SIDES):
        if len(content) <= budget_bytes:
            break
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        content = _webp(small, lossless=False)
    uri = f"data:image/webp;base64,{base64.b64encode(content).decode()}"
    return Embedded(uri, *small.size, exact=exact)


def embed_film(out: Path, path: str) -> str:
    """The mp4 at `path` in `out` as a data URI."""
    try:
        content = inside(out, path).read_bytes()
    except FileNotFoundError:
        raise UnshowableError(f"{path}: is not in the run directory") from None
    except OSError as error:
        raise UnshowableError(f"{path}: {error}") from error
    if len(content) > FILM_BUDGET_BYTES:
        raise UnshowableError(f"{path}: {len(content) / 1e6:.1f} MB are too many for this page; the file is beside it")
    return f"data:video/mp4;base64,{base64.b64encode(content).decode()}"


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of `items`, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _webp(picture: Image.Image, *, lossless: bool) -> bytes:
    buffer = io.BytesIO()
    converted = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    converted.save(buffer, "WEBP", lossless=lossless, quality=50 if lossless else 84, method=2 if lossless else 4)
    return buffer.getvalue()
