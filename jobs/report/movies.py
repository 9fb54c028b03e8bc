"""Films with sound for people: mp4 (H.264 and AAC), written by PyAV, which comes with the extra `video`."""

import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobs.errors import DataError, StoreError
from jobs.files import replacing

Film = npt.NDArray[np.uint8]

ABSENT = "PyAV is not installed, so no films can be read or written"
HINT = "pip install 'gankiln[video]'"
X264_OPTIONS: dict[str, object] = {"crf": "16", "x264-params": "mbtree=0"}
"""The macroblock tree of x264 looks at memory that nobody wrote: with it, small films differ from call to call."""
VISIBLE_SIDE = 160
"""Smaller frames are enlarged until they are at least so high."""


def can_write() -> bool:
    """Whether PyAV is there."""
    return importlib.util.find_spec("av") is not None


def side_by_side(*films_TCHW: Film) -> Film:
    """Films of one shape, left to right, a white column of two pixels between them."""
    gap_TCH2 = np.full((*films_TCHW[0].shape[:3], 2), 255, np.uint8)
    parts = [part for film in films_TCHW for part in (film, gap_TCH2)]
    return np.concatenate(parts[:-1], axis=3)


def difference(one_TCHW: Film, other_TCHW: Film) -> Film:
    """Grey where both are equal, brighter or darker where `other` is."""
    away = other_TCHW.astype(np.int16) - one_TCHW.astype(np.int16)
    return (128 + away // 2).clip(0, 255).astype(np.uint8)


def write_mp4(path: Path, film_TCHW: Film, fps: int, waveform_S: npt.NDArray[np.float32], rate: int) -> None:
    """Writes `film` (grey or rgb) with its sound in [-1, 1] to `path`, whole or not at all.

    Raises DataError where PyAV is absent, StoreError where the file cannot be written.
    """
    if not can_write():
        raise DataError(ABSENT, hint=HINT)
    import av  # an extra

    frames_THWC = _even(_rgb(film_TCHW))
    try:
        with (
            replacing(path) as aside,
            av.open(str(aside), "w", format="mp4", options={"movflags": "faststart"}) as container,
        ):
            pictures = container.add_stream(_codec(), rate=fps)
            sound = container.add_stream("aac", rate=rate, layout="mono")
            assert isinstance(pictures, av.VideoStream) and isinstance(sound, av.AudioStream)
            pictures.height, pictures.width, pictures.pix_fmt = *frames_THWC.shape[1:3], "yuv420p"
            pictures.options = X264_OPTIONS if pictures.name == "libx264" else {}
            for number, frame_HWC in enumerate(frames_THWC):
                frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
            heard = av.AudioFrame.from_ndarray(waveform_S[None].astype(np.float32), format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = rate, 0, Fraction(1, rate)
            container.mux(sound.encode(heard))
            container.mux(sound.encode(None))
    except OSError as error:  # av's errors among them
        raise StoreError(f"{path}: the film cannot be written: {error}") from error


def _codec() -> str:
    """The best encoder for browsers that this PyAV was built with."""
    import av

    return next((name for name in ("libx264", "libopenh264") if name in av.codecs_available), "mpeg4")


def _rgb(film_TCHW: Film) -> Film:
    film_THWC = film_TCHW.transpose(0, 2, 3, 1)
    return np.repeat(film_THWC, 3, axis=3) if film_THWC.shape[3] == 1 else film_THWC[..., :3]


def _even(film_THWC: Film) -> Film:
    """Enlarged to be seen, and of even sides, as the pixel format needs."""
    scale = max(1, -(-VISIBLE_SIDE // film_THWC.shape[1]))
    film_THWC = film_THWC.repeat(scale, axis=1).repeat(scale, axis=2)
    odd = [side % 2 for side in film_THWC.shape[1:3]]
    return np.ascontiguousarray(np.pad(film_THWC, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge"))
