"""Pictures for people: sample grids, samples beside their nearest training images, real beside generated.

Images are uint8 [N, C, H, W] with C = 1 (grey), 3 (RGB) or 4 (RGBA, shown over a checkerboard). Pictures are PNG files,
written whole or not at all. Small images are enlarged by an integer with nearest neighbours: a pixel stays a pixel.
"""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jobs.report.model import write_atomically

Images = npt.NDArray[np.uint8]

VISIBLE_SIDE = 64
"""Images smaller than this are enlarged until they are at least this large."""
TILING = "gankiln:tiling"
CHECKER_LIGHT, CHECKER_DARK = 204, 153


def from_signed(image_NCHW: npt.NDArray[np.floating]) -> Images:
    """Images in [-1, 1] as uint8, the way StyleGAN2 writes them: floor(127.5 x + 128), clipped; no number is black."""
    return np.nan_to_num(image_NCHW * 127.5 + 128).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where the images of a grid lie, in pixels; travels in the PNG file as a text chunk."""

    count: int
    columns: int
    width: int
    height: int
    gap: int

    def box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of image `index`."""
        row, column = divmod(index, self.columns)
        left, top = column * (self.width + self.gap), row * (self.height + self.gap)
        return left, top, left + self.width, top + self.height

    def write(self, picture: Image.Image) -> None:
        """Puts this tiling into the file that `picture` will be written to."""
        picture.info[TILING] = json.dumps(asdict(self))

    @classmethod
    def of(cls, picture: Image.Image) -> "Tiling | None":
        """The tiling that `picture` carries, if it does and if it fits."""
        try:
            tiling = cls(**{name: int(value) for name, value in json.loads(picture.info[TILING]).items()})
            last = tiling.box(tiling.count - 1)
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
            return None
        inside = min(last) >= 0 and last[2] <= picture.width and last[3] <= picture.height
        return tiling if inside and tiling.count > 0 and tiling.width > 0 and tiling.height > 0 else None


def grid(
    image_NCHW: Images, columns: int | None = None, *, gap: int | None = None, scale: int | None = None
) -> Image.Image:
    """`image_NCHW` in rows of `columns` (default: as square as can be), transparent between them.

    `gap` is in pixels of the images (default: a 24th of their width); `scale` enlarges everything by an integer, by
    default until an image is at least 64 pixels wide.
    """
    tile_NHWC = _visible(_checked(image_NCHW))
    count, height, width, channels = tile_NHWC.shape
    scale = scale or default_scale(width)
    gap = max(1, width // 24) if gap is None else gap
    tiling = Tiling(count, columns or math.ceil(math.sqrt(count)), width, height, gap)
    boxes = [tiling.box(index) for index in range(count)]
    sheet = np.zeros((max(box[3] for box in boxes), max(box[2] for box in boxes), channels + 1), np.uint8)
    for (left, top, right, bottom), tile in zip(boxes, tile_NHWC, strict=True):
        sheet[top:bottom, left:right, :channels] = tile
        sheet[top:bottom, left:right, channels] = 255
    picture = enlarge(Image.fromarray(sheet, "LA" if channels == 1 else "RGBA"), scale)
    Tiling(count, tiling.columns, width * scale, height * scale, gap * scale).write(picture)
    return picture


def through_time(grids: Sequence[Image.Image], most: int) -> Image.Image | None:
    """The first `most` images of every grid, one row an image, one column a grid; None if the grids do not match."""
    tilings = {Tiling.of(picture) for picture in grids}
    tiling = next(iter(tilings), None)
    if len(tilings) != 1 or tiling is None:
        return None
    rows = min(most, tiling.count)
    across, down = tiling.width + tiling.gap, tiling.height + tiling.gap
    sheet = Image.new(grids[0].mode, (across * len(grids) - tiling.gap, down * rows - tiling.gap))
    for column, picture in enumerate(grids):
        for row in range(rows):
            sheet.paste(picture.crop(tiling.box(row)), (column * across, row * down))
    return sheet


def neighbour_sheet(sample_NCHW: Images, neighbour_NKCHW: Images, *, gap: int | None = None) -> Image.Image:
    """One row a sample: the sample, then its K nearest training images. Not enlarged: the page does that."""
    rows = np.concatenate([sample_NCHW[:, None], neighbour_NKCHW], axis=1)
    count, per_row = rows.shape[:2]
    return grid(rows.reshape(count * per_row, *rows.shape[2:]), per_row, gap=gap, scale=1)


def real_beside_generated(real_NCHW: Images, generated_NCHW: Images, columns: int = 8) -> Image.Image:
    """Real images in the left block, generated ones in the right, under one another row by row."""
    left, right = grid(real_NCHW, columns), grid(generated_NCHW, columns)
    space = max(8, left.width // 24)
    sheet = Image.new(left.mode, (left.width + space + right.width, max(left.height, right.height)))
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + space, 0))
    return sheet


def default_scale(width: int) -> int:
    """The smallest integer that makes `width` pixels at least 64."""
    return max(1, -(-VISIBLE_SIDE // width))


def enlarge(picture: Image.Image, scale: int) -> Image.Image:
    """`picture`, every pixel a square of `scale` x `scale`."""
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def reduce(picture: Image.Image) -> tuple[Image.Image, int]:
    """Undoes `enlarge` where that loses nothing: the smallest equal picture, and the scale that was taken away."""
    for scale in range(min(16, *picture.size), 1, -1):
        if picture.width % scale or picture.height % scale:
            continue
        small = picture.resize((picture.width // scale, picture.height // scale), Image.Resampling.NEAREST)
        if np.array_equal(np.asarray(enlarge(small, scale)), np.asarray(picture)):
            return small, scale
    return picture, 1


def tiles(sheet: Image.Image) -> list[list[Image.Image]]:
    """The images of a sheet that `grid` made, row by row; none if it carries no tiling."""
    tiling = Tiling.of(sheet)
    if tiling is None:
        return []
    each = [sheet.crop(tiling.box(index)) for index in range(tiling.count)]
    return [each[start : start + tiling.columns] for start in range(0, tiling.count, tiling.columns)]


def png_bytes(picture: Image.Image) -> bytes:
    """`picture` as a PNG file."""
    buffer = io.BytesIO()
    texts = PngInfo()
    if TILING in picture.info:
        texts.add_text(TILING, picture.info[TILING])
    picture.save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def write_png(path: Path, picture: Image.Image) -> None:
    """Writes `picture` to `path`, whole or not at all."""
    write_atomically(path, png_bytes(picture))


def write_image(path: Path, image_CHW: Images) -> None:
    """Writes one image to `path` as it is, transparency included."""
    image_HWC = np.ascontiguousarray(_checked(image_CHW[None])[0].transpose(1, 2, 0))
    write_png(path, Image.fromarray(image_HWC[..., 0] if image_HWC.shape[2] == 1 else image_HWC))


def _checked(image_NCHW: Images) -> Images:
    shape: Sequence[int] = image_NCHW.shape
    if image_NCHW.dtype != np.uint8 or len(shape) != 4 or shape[1] not in (1, 3, 4) or 0 in shape:
        raise ValueError(
            f"images: expected uint8 [N, 1|3|4, H, W] with at least one image, got {image_NCHW.dtype} {list(shape)}"
        )
    return image_NCHW


def _visible(image_NCHW: Images) -> npt.NDArray[np.uint8]:
    """[N, C, H, W] -> [N, H, W, 1 or 3]; alpha is flattened onto a checkerboard."""
    image_NHWC = np.ascontiguousarray(image_NCHW.transpose(0, 2, 3, 1))
    if image_NHWC.shape[-1] != 4:
        return image_NHWC
    alpha = image_NHWC[..., 3:].astype(np.float32) / 255
    checker = _checkerboard(*image_NHWC.shape[1:3])[None, :, :, None]
    return np.rint(image_NHWC[..., :3] * alpha + checker * (1 - alpha)).astype(np.uint8)


def _checkerboard(height: int, width: int) -> npt.NDArray[np.float32]:
    cell = max(1, width // 8)
    row, column = np.arange(height)[:, None] // cell, np.arange(width)[None, :] // cell
    return np.where((row + column) % 2 == 0, CHECKER_LIGHT, CHECKER_DARK).astype(np.float32)
