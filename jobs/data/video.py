"""Clips from files: videos with sound, decoded by PyAV (the extra `video`), or folders of frames with one wav.

Frames come at the section's rate: of each moment the source frame that is seen in its middle. Sound is mono at the
section's rate, put where the file's clocks say, cut or followed by silence so that both end together.
"""

import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.data.dataset import ImagesU8
from jobs.data.decode import MAX_PIXELS, SUFFIXES, DecodeError, decode, fitted
from jobs.data.roots import Roots
from jobs.data.source import MAX_FILE_BYTES, printable
from jobs.data.wav import F32, read_wav
from jobs.errors import DataError
from jobs.spec.clips import Box, ClipFolder

CONTAINERS = {".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".webm": "matroska", ".mkv": "matroska", ".avi": "avi"}
"""By suffix, the one format that a file is read as: formats that lead to other files (playlists) are none of them."""
MAX_BOXES_BYTES = 16 << 20


class ClipFiles(NamedTuple):
    """One clip before it is decoded."""

    name: str
    files: tuple[tuple[str, Path], ...]
    """A video; or frames in order, then their wav."""


def list_clips(section: ClipFolder, roots: Roots) -> list[ClipFiles]:
    """Every clip below the folder, by name. Raises SpecError and DataError as `Roots.locate` does; none is an error."""
    folder = roots.locate(section.path, "data.path")
    if not folder.is_dir():
        raise DataError(f"data.path: {section.path!r} is not a directory")
    found = []
    try:
        for directory, _, names in os.walk(folder):
            inside = Path(directory)
            prefix = PurePosixPath(inside.relative_to(folder).as_posix())
            paths = {str(prefix / name): _checked(inside / name, roots) for name in sorted(names) if name[0] != "."}
            found += [ClipFiles(name, ((name, path),)) for name, path in paths.items() if _suffix(name) in CONTAINERS]
            frames = [(name, path) for name, path in paths.items() if _suffix(name) in SUFFIXES]
            sounds = [(name, path) for name, path in paths.items() if _suffix(name) == ".wav"]
            if frames and len(sounds) == 1:
                found.append(ClipFiles(str(prefix), (*frames, *sounds)))
    except OSError as error:
        raise DataError(f"data.path: {section.path!r} cannot be listed: {error.strerror}") from None
    if not found:
        raise DataError(
            f"data.path: {section.path!r} holds no clips",
            hint=f"clips are videos ({', '.join(CONTAINERS)}) or folders of frames with one wav",
        )
    return sorted(found)


def read_boxes(section: ClipFolder, roots: Roots) -> dict[str, Box]:
    """The boxes of the JSON file, by clip. Raises DataError where it is none."""
    if section.boxes is None:
        return {}
    path = roots.locate(section.boxes, "data.boxes")
    try:
        if path.stat().st_size > MAX_BOXES_BYTES:
            raise ValueError(f"larger than {MAX_BOXES_BYTES >> 20} MiB")
        told = json.loads(path.read_bytes())
        return {str(name): _box(name, values) for name, values in told.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"data.boxes: {section.boxes!r} is no table of boxes ({error})",
            hint='it holds {"name of the clip": [left, top, right, bottom], ...} in pixels of the video',
        ) from None


def read_clip(clip: ClipFiles, section: ClipFolder, box: Box | None) -> tuple[ImagesU8, F32]:
    """Frames [T, C, R, R] and samples. Raises DecodeError with the reason where it cannot be used."""
    if len(clip.files) > 1:
        return _read_frames(clip, section, box)
    if importlib.util.find_spec("av") is None:
        raise DataError("data: PyAV is not installed, so no videos can be read", hint="pip install 'gankiln[video]'")
    return _read_video(clip.files[0][1], section, box)


def _read_frames(clip: ClipFiles, section: ClipFolder, box: Box | None) -> tuple[ImagesU8, F32]:
    *frames, (_, sound) = clip.files
    pictures = []
    for _, path in frames[: int(section.max_seconds * section.frame_rate)]:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DecodeError(f"a frame is larger than {MAX_FILE_BYTES >> 20} MiB")
        if box is None:
            pictures.append(decode(path.read_bytes(), section.resolution, section.channels, section.fit))
        else:
            with Image.open(path) as picture:
                pictures.append(_placed(picture, section, box))
    times_T = np.arange(len(pictures)) / section.frame_rate
    waveform_S = read_wav(sound, section.audio.rate, section.max_seconds)
    return _together(np.stack(pictures), times_T, waveform_S, 0.0, section)


def _read_video(path: Path, section: ClipFolder, box: Box | None) -> tuple[ImagesU8, F32]:
    import av  # an extra

    taken = _Taken(av.AudioResampler(format="fltp", layout="mono", rate=section.audio.rate))
    try:
        with path.open("rb") as file, av.open(file, "r", format=CONTAINERS[_suffix(path.name)]) as container:
            if not container.streams.video or not container.streams.audio:
                raise DecodeError("has no sound" if container.streams.video else "has no pictures")
            for frame in container.decode(container.streams.video[0], container.streams.audio[0]):
                if isinstance(frame, av.VideoFrame):
                    taken.see(frame, _seen(frame, section, box))
                elif isinstance(frame, av.AudioFrame):
                    taken.hear(frame)
                if taken.seconds > section.max_seconds:
                    break
    except DecodeError:
        raise
    except Exception as error:  # FFmpeg fed with damaged bytes may raise anything
        raise DecodeError(str(error).strip() or type(error).__name__) from None
    return taken.together(section)


@dataclass
class _Taken:
    """What was decoded of a video so far."""

    resampler: Any
    pictures: list[ImagesU8] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    heard: list[F32] = field(default_factory=list)
    heard_from: float = 0.0

    @property
    def seconds(self) -> float:
        """Of pictures."""
        return self.times[-1] - self.times[0] if self.times else 0.0

    def see(self, frame: Any, picture: ImagesU8) -> None:
        self.pictures.append(picture)
        self.times.append(float(frame.time or 0.0))

    def hear(self, frame: Any) -> None:
        if not self.heard:
            self.heard_from = float(frame.time or 0.0)
        self.heard += [part.to_ndarray()[0] for part in self.resampler.resample(frame)]

    def together(self, section: ClipFolder) -> tuple[ImagesU8, F32]:
        """Frames and sound at the section's rates."""
        if len(self.pictures) < 2 or not self.heard:
            raise DecodeError("has fewer than two frames, or no sound")
        waveform_S = np.concatenate(self.heard).astype(np.float32)
        times_U = np.array(self.times) - self.times[0]
        return _together(np.stack(self.pictures), times_U, waveform_S, self.heard_from - self.times[0], section)


def _seen(frame: Any, section: ClipFolder, box: Box | None) -> ImagesU8:
    if frame.width * frame.height > MAX_PIXELS:
        raise DecodeError(f"{frame.width} x {frame.height} pixels are more than {MAX_PIXELS}")
    return _placed(frame.to_image(), section, box)


def _placed(picture: Image.Image, section: ClipFolder, box: Box | None) -> ImagesU8:
    """The box of a picture as a square."""
    if box is not None:
        left, top, right, bottom = (round(value) for value in box)
        if right > picture.width or bottom > picture.height:
            raise DecodeError(
                f"its box ends at ({right}, {bottom}), its pictures at {picture.width} x {picture.height}"
            )
        picture = picture.crop((left, top, right, bottom))
    return fitted(picture.convert("L" if section.channels == "grey" else "RGB"), section.resolution, section.fit)


def _together(
    frames_UCHW: ImagesU8, times_U: NDArray[np.float64], waveform_S: F32, late_seconds: float, section: ClipFolder
) -> tuple[ImagesU8, F32]:
    """Source frames at `times_U` and sound that begins `late_seconds` after them, at the section's rates."""
    period = float(np.median(np.diff(times_U)))
    count = int((times_U[-1] + period) * section.fps + 1e-6)
    middles_T = (np.arange(count) + 0.5) / section.fps
    seen_T = np.searchsorted(times_U, middles_T + 1e-9, side="right") - 1
    shift = round(late_seconds * section.audio.rate)
    samples = count * section.audio.rate // section.fps
    placed_S = np.zeros(samples, np.float32)
    source_S = waveform_S[max(-shift, 0) :][: max(samples - max(shift, 0), 0)]
    placed_S[max(shift, 0) : max(shift, 0) + len(source_S)] = source_S
    return np.ascontiguousarray(frames_UCHW[seen_T.clip(0, len(times_U) - 1)]), placed_S


def _box(name: object, values: Sequence[float]) -> Box:
    left, top, right, bottom = (float(value) for value in values)
    if not (0 <= left < right and 0 <= top < bottom):
        raise ValueError(f"{printable(str(name))}: left < right and top < bottom are needed, none below 0")
    return left, top, right, bottom


def _checked(path: Path, roots: Roots) -> Path:
    """A link is followed within the allowed directories only."""
    if path.is_symlink():
        path = path.resolve()
        roots.check(path, f"data.path: {printable(path.name)!r} is a link that")
    return path


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
