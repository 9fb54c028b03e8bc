"""Any picture becomes the square that the section asks for, by the stated rules."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.data.decode import MAX_PIXELS, DecodeError, decode, place
from tests.data_files import encoded, picture, png


def test_a_picture_that_fits_keeps_its_exact_pixels() -> None:
    image = picture(0)
    for fit in ("crop", "pad", "stretch"):
        np.testing.assert_array_equal(decode(encoded(image), 8, "rgb", fit), np.asarray(image).transpose(2, 0, 1))


def test_crop_keeps_the_middle() -> None:
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200
    assert (decode(encoded(Image.fromarray(wide)), 8, "rgb", "crop") == 200).all()
    assert (decode(encoded(Image.fromarray(wide.transpose(1, 0, 2))), 8, "rgb", "crop") == 200).all()


def test_pad_puts_zeros_around_and_never_enlarges() -> None:
    small = picture(1, 6, 4)
    out = decode(encoded(small), 8, "rgb", "pad")
    np.testing.assert_array_equal(out[:, 2:6, 1:7], np.asarray(small).transpose(2, 0, 1))
    out[:, 2:6, 1:7] = 0
    assert not out.any()


def test_pad_scales_the_longer_side_down() -> None:
    out = decode(encoded(Image.new("RGB", (64, 32), "white")), 16, "rgb", "pad")
    assert (out[:, 4:12] == 255).all()
    assert not out[:, :4].any() and not out[:, 12:].any()


def test_stretch_ignores_the_aspect() -> None:
    halves = np.zeros((4, 32, 3), np.uint8)
    halves[:, 16:] = 255
    out = decode(encoded(Image.fromarray(halves)), 8, "grey", "stretch")[0]
    assert (out[:, :3] < 20).all() and (out[:, 5:] > 235).all()


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([4, 32, 256]))
def test_every_placement_lies_inside(width: int, height: int, resolution: int) -> None:
    for fit in ("crop", "pad", "stretch"):
        box, wide, high, left, top = place(width, height, resolution, fit)
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
        assert wide >= 1 and high >= 1 and left >= 0 and top >= 0
        assert left + wide <= resolution and top + high <= resolution
        if fit == "pad" and max(width, height) <= resolution:
            assert (wide, high) == (width, height)
        if fit == "crop":
            assert box[2] - box[0] == box[3] - box[1] == min(width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    upright = np.zeros((8, 8), np.uint8)
    upright[:4, :2] = 255
    turned = {  # what the camera stores, so that a viewer that obeys the tag sees `upright`
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turned)), exif=exif)
    np.testing.assert_array_equal(decode(data, 8, "grey", "crop")[0], upright)


def test_sixteen_bit_grey_is_scaled_not_cut() -> None:
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    out = decode(encoded(Image.fromarray(wide)), 8, "grey", "crop")[0]
    np.testing.assert_allclose(out, wide / 257, atol=0.5)


def test_sixteen_bit_rgb() -> None:
    rows = np.full((8, 8, 3), 0x80FF, ">u2")
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    assert set(np.unique(decode(data, 8, "rgb", "crop"))) <= {0x80, 0x81}


def test_transparency_is_kept_or_shown_over_white() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    half.paste((0, 0, 0, 0), (0, 0, 4, 8))
    kept = decode(encoded(half), 8, "rgba", "crop")
    assert (kept[3, :, :4] == 0).all() and (kept[3, :, 4:] == 255).all()
    shown = decode(encoded(half), 8, "rgb", "crop")
    assert (shown[:, :, :4] == 255).all()
    assert (shown[:, :, 4:].reshape(3, -1) == np.array([[255], [0], [0]])).all()
    assert (decode(encoded(half), 8, "grey", "crop")[0, :, :4] == 255).all()


def test_unseen_colours_do_not_bleed_into_edges() -> None:
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))  # green, but nobody sees it
    image.paste((255, 0, 0, 255), (0, 0, 32, 64))
    red, green, _, alpha = decode(encoded(image), 8, "rgba", "crop")
    assert (green[alpha > 0] == 0).all()
    assert (red[alpha > 20] > 250).all()


def test_palette_with_transparency() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (4, 0, 8, 8))
    data = encoded(image, transparency=0)
    assert (decode(data, 8, "rgb", "crop")[:, 0, 0] == 255).all()
    np.testing.assert_array_equal(decode(data, 8, "rgb", "crop")[:, 0, 7], [200, 100, 50])
    np.testing.assert_array_equal(decode(data, 8, "rgba", "crop")[3, 0], [0] * 4 + [255] * 4)


def test_cmyk_jpeg() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    red, green, blue = decode(data, 8, "rgb", "crop").reshape(3, -1).mean(1)
    assert red > 240 and green < 20 and blue < 20


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_frames_the_first(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode(data, 8, "rgb", "crop")[:, 0, 0], [255, 0, 0], atol=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize(("channels", "count"), [("grey", 1), ("rgb", 3), ("rgba", 4)])
def test_every_mode_to_every_channels(mode: str, channels: str, count: int) -> None:
    out = decode(encoded(picture(3, 9, 7, "RGB").convert(mode)), 4, channels, "crop")
    assert out.shape == (count, 4, 4) and out.dtype == np.uint8 and out.flags.c_contiguous


def test_grey_is_luma() -> None:
    image = Image.new("RGB", (4, 4), (100, 150, 200))
    assert decode(encoded(image), 4, "grey", "crop")[0, 0, 0] == round(0.299 * 100 + 0.587 * 150 + 0.114 * 200)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_damage_is_a_decode_error_or_an_image(at: int, damage: bytes) -> None:
    data = bytearray(png(0, 16, 16))
    data[at % len(data) : at % len(data) + len(damage)] = damage
    try:
        assert decode(bytes(data), 8, "rgb", "crop").shape == (3, 8, 8)
    except DecodeError as error:
        assert str(error)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_image_is_refused(kind: str) -> None:
    data = encoded(picture(0, 64, 64), kind)
    assert decode(data, 8, "rgb", "crop").shape == (3, 8, 8)
    for part in (0, 1, 20, len(data) // 2):
        with pytest.raises(DecodeError):
            decode(data[:part], 8, "rgb", "crop")


def test_an_image_bomb_is_refused_before_it_is_decoded() -> None:
    side = 8200
    data = encoded(Image.new("1", (side, side)))
    assert side * side > MAX_PIXELS and len(data) < 20_000
    with pytest.raises(DecodeError, match="8200 x 8200 pixels"):
        decode(data, 8, "rgb", "crop")
    header = bytearray(png(0))
    header[16:24] = struct.pack(">II", 100_000, 100_000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    with pytest.raises(DecodeError, match="pixels"):
        decode(bytes(header), 8, "rgb", "crop")


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "PCX"])
def test_other_formats_are_not_even_tried(kind: str) -> None:
    with pytest.raises(DecodeError, match="none of PNG, JPEG"):
        decode(encoded(picture(0), kind), 8, "rgb", "crop")


def test_floating_point_pixels_are_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(file, "TIFF")
    with pytest.raises(DecodeError, match="no stated range"):
        decode(file.getvalue(), 4, "grey", "crop")
