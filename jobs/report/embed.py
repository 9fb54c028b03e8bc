"""Pictures inside the page: data URIs within a budget of bytes, so that the report stays one file one can mail."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from jobs.report import pictures

T = TypeVar("T")

MOST_FRAMES = 24
FRAMES_BUDGET_BYTES = 6_000_000
PICTURE_BUDGET_BYTES = 700_000
LARGEST_SIDES = (1536, 1024, 768, 512, 320)
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
    file = (out / path).resolve()
    if not file.is_relative_to(out.resolve()):
        raise UnshowableError(f"{path}: leads out of the run directory")
    return file


def open_picture(out: Path, path: str) -> Image.Image:
    """The picture at `path` in `out`, decoded."""
    file = inside(out, path)
    try:
        with Image.open(file) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                raise UnshowableError(f"{path}: {picture.width} x {picture.height} pixels are too many to show")
            picture.load()
            return picture.copy()
    except FileNotFoundError:
        raise UnshowableError(f"{path}: is not in the run directory") from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UnshowableError(f"{path}: {error}") from error


def embed(picture: Image.Image, budget_bytes: int = PICTURE_BUDGET_BYTES) -> Embedded:
    """`picture` in about `budget_bytes`: exact PNG, a pixel a pixel, if that fits; else WebP, smaller if it must be."""
    exact = pictures.reduce(picture)[0]
    content = pictures.png_bytes(exact)
    if len(content) <= budget_bytes:
        return Embedded(_uri("png", content), *exact.size, exact=exact.width <= MOST_PIXEL_ART)
    for side in LARGEST_SIDES:
        content, width, height = _webp(picture, side)
        if len(content) <= budget_bytes:
            break
    return Embedded(_uri("webp", content), width, height, exact=False)


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of `items`, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _webp(picture: Image.Image, side: int) -> tuple[bytes, int, int]:
    small = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=84, method=4)
    return buffer.getvalue(), small.width, small.height


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
