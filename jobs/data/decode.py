"""From the bytes of one image file to uint8 [C, R, R], or to the reason why not.

The rules, in this order: the first frame; turned as EXIF says; 16-bit grey divided by 257; palettes and CMYK to RGB;
transparency kept for `rgba`, else shown over white; then `fit`:

    crop      the middle square, scaled to R x R
    pad       scaled so that the longer side is R if it is larger, never up; in the middle of zeros
    stretch   scaled to R x R

Scaling is Lanczos with antialiasing; an image that already fits keeps its exact pixels.
"""

import io
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jobs.data.dataset import ImagesU8

Channels = Literal["grey", "rgb", "rgba"]
Fit = Literal["crop", "pad", "stretch"]
Box = tuple[float, float, float, float]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Closed, because some of Pillow's other readers start programs (EPS) or are seldom tested against bad files."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 1 << 26
"""8192 x 8192. A file of a few kB can claim a billion pixels; it is refused before any of them is decoded."""

_MODE: dict[Channels, str] = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}


class DecodeError(Exception):
    """The bytes are not an image that can be used; the message says why."""


class Placement(NamedTuple):
    """Which part of a picture is scaled to which size, and how far from the left and top edge it is put."""

    box: Box
    width: int
    height: int
    left: int
    top: int


def decode(data: bytes, resolution: int, channels: Channels, fit: Fit) -> ImagesU8:
    """One image as uint8 [C, resolution, resolution]. Raises DecodeError."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DecodeError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
            image.load()
            picture = _in_mode(ImageOps.exif_transpose(image), channels)
        return fitted(picture, resolution, fit)
    except DecodeError:
        raise
    except UnidentifiedImageError:
        raise DecodeError(f"is none of {', '.join(FORMATS)}, whatever its name says") from None
    except Exception as error:  # a decoder fed with damaged bytes may raise anything: OSError, SyntaxError, IndexError
        raise DecodeError(str(error).strip() or type(error).__name__) from None


def place(width: int, height: int, resolution: int, fit: Fit) -> Placement:
    """How a picture of `width` x `height` becomes a square of `resolution`."""
    match fit:
        case "crop":
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            return Placement((left, top, left + side, top + side), resolution, resolution, 0, 0)
        case "stretch":
            return Placement((0, 0, width, height), resolution, resolution, 0, 0)
        case "pad":
            scale = min(1.0, resolution / max(width, height))
            wide, high = max(1, round(width * scale)), max(1, round(height * scale))
            return Placement((0, 0, width, height), wide, high, (resolution - wide) // 2, (resolution - high) // 2)


def _in_mode(image: Image.Image, channels: Channels) -> Image.Image:
    image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert(_MODE[channels])
    image = image.convert("RGBA")
    if channels == "rgba":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert(_MODE[channels])


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow cuts wider grey at 255 when it converts; scale it instead."""
    if image.mode == "F":
        raise DecodeError("floating-point pixels have no stated range")
    if not image.mode.startswith("I"):
        return image
    wide = np.asarray(image).astype(np.int32)
    return Image.fromarray(((wide.clip(0, 65535) + 128) // 257).astype(np.uint8))


def fitted(picture: Image.Image, resolution: int, fit: Fit) -> ImagesU8:
    """A picture in its final mode as uint8 [C, resolution, resolution]."""
    placement = place(*picture.size, resolution, fit)
    size = (placement.width, placement.height)
    if placement.box != (0, 0, *picture.size) or size != picture.size:
        picture = _resized(picture, size, placement.box)
    if size != (resolution, resolution):
        padded = Image.new(picture.mode, (resolution, resolution))
        padded.paste(picture, (placement.left, placement.top))
        picture = padded
    pixels = np.asarray(picture)
    return np.ascontiguousarray(pixels.reshape(resolution, resolution, -1).transpose(2, 0, 1))


def _resized(picture: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    if picture.mode == "RGBA":  # colour weighted by alpha, or unseen colours bleed into the edges
        return picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS, box).convert("RGBA")
    return picture.resize(size, Image.Resampling.LANCZOS, box)
