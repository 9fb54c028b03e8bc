"""Pictures inside the page: exact where small, within their budget where not, never from elsewhere."""

import base64
import io
import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.report import embed, pictures
from jobs.report.embed import UnshowableError


def decoded(uri: str) -> Image.Image:
    head, _, content = uri.partition(";base64,")
    assert head == "data:image/webp"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


def test_a_small_picture_is_embedded_pixel_for_pixel_at_its_own_size() -> None:
    image_NCHW = np.random.default_rng(1).integers(0, 256, (4, 3, 16, 16), np.uint8)
    shown = embed.embed(pictures.grid(image_NCHW, 2))  # enlarged four times for the file
    own = pictures.grid(image_NCHW, 2, scale=1)
    assert shown.exact
    assert (shown.width, shown.height) == own.size
    assert np.array_equal(np.asarray(decoded(shown.uri).convert("RGBA")), np.asarray(own))


def test_a_large_picture_keeps_its_budget() -> None:
    shown = embed.embed(noise(1400), 60_000)
    assert len(base64.b64decode(shown.uri.partition(",")[2])) <= 60_000
    assert decoded(shown.uri).size == (shown.width, shown.height)
    assert not shown.exact


@given(count=st.integers(0, 300), most=st.integers(2, 30))
def test_spread_is_even_and_has_both_ends(count: int, most: int) -> None:
    chosen = embed.spread(range(count), most)
    assert len(chosen) == min(count, most)
    if chosen:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert all(gap >= 1 for gap in gaps)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "samples/../../secret.png", "link.png"])
def test_nothing_outside_of_the_run_directory_is_opened(tmp_path: Path, path: str) -> None:
    out = tmp_path / "run"
    (out / "samples").mkdir(parents=True)
    pictures.write_png(tmp_path / "secret.png", noise(8))
    (out / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UnshowableError, match="leads out of the run directory"):
        embed.open_picture(out, path)
    assert not embed.holds(out, path)


def bomb(path: Path, side: int) -> None:
    """A PNG that says it is enormous."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_what_cannot_be_shown_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    pictures.write_png(tmp_path / "whole.png", noise(64))
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    for side in (8_001, 12_000, 60_000):
        bomb(tmp_path / f"bomb{side}.png", side)
    for path, why in {
        "absent.png": "is not in the run directory",
        "text.png": "cannot identify",
        "torn.png": "truncated",
        "bomb8001.png": "too many",
        "bomb12000.png": "exceeds limit",
        "bomb60000.png": "exceeds limit",
        "nul\0.png": "null",
        ".": "directory",
    }.items():
        with pytest.raises(UnshowableError, match=why):
            embed.open_picture(tmp_path, path)
