"""Pictures for people: sample grids, samples beside their nearest training images, real beside generated.

Images are uint8 [N, C, H, W] with C = 1 (grey), 3 (RGB) or 4 (RGBA, shown over a checkerboard). Pictures are PNG files,
written whole or not at all. Small images are enlarged by an integer with nearest neighbours: a pixel stays a pixel.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from jobs.report.model import write_atomically

Images = npt.NDArray[np.uint8]

VISIBLE_SIDE = 64
"""Images smaller than this are enlarged until they are at least this large."""
CHECKER_LIGHT, CHECKER_DARK = 204, 153


def from_signed(image_NCHW: npt.NDArray[np.floating]) -> Images:
    """Images in [-1, 1] as uint8, the way StyleGAN2 writes them: floor(127.5 x + 128), clipped."""
    return (image_NCHW * 127.5 + 128).clip(0, 255).astype(np.uint8)


def grid(image_NCHW: Images, columns: int | None = None, *, gap: int = 2, scale: int | None = None) -> Image.Image:
    """`image_NCHW` in rows of `columns` (default: as square as can be), with `gap` transparent pixels between them.

    `scale` enlarges by an integer; by default until an image is at least 64 pixels wide.
    """
    tile_NHWC = _visible(_checked(image_NCHW))
    count, height, width, channels = tile_NHWC.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels + 1), np.uint8)
    for index, tile in enumerate(tile_NHWC):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width, :channels] = tile
        sheet[top : top + height, left : left + width, channels] = 255
    picture = Image.fromarray(sheet, "LA" if channels == 1 else "RGBA")
    return enlarge(picture, scale or default_scale(width))


def neighbour_sheet(sample_NCHW: Images, neighbour_NKCHW: Images, *, gap: int = 2) -> Image.Image:
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


def tiles(sheet: Image.Image, tile: int, gap: int) -> list[list[Image.Image]]:
    """The tiles of a sheet that `grid` made with square images of side `tile`, row by row."""
    step = tile + gap
    return [
        [sheet.crop((left, top, left + tile, top + tile)) for left in range(0, sheet.width - tile + 1, step)]
        for top in range(0, sheet.height - tile + 1, step)
    ]


def png_bytes(picture: Image.Image) -> bytes:
    """`picture` as an optimised PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_png(path: Path, picture: Image.Image) -> None:
    """Writes `picture` to `path`, whole or not at all."""
    write_atomically(path, png_bytes(picture))


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
