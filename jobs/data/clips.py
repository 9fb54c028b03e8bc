"""Clips of speaking faces: decoded once into a cache of their own, shown as windows of consecutive frames.

    CACHE/clips/KEY/frames.npy      uint8 [T, C, H, W]
    CACHE/clips/KEY/waveform.npy    float32 [S] in [-1, 1]
    CACHE/clips/KEY/truth.npz       only of drawn clips

An entry is written aside and renamed, so it is whole or not there; it is a pure function of its key.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.data import talkingcartoon
from jobs.data.content import content_digest
from jobs.data.dataset import ImagesU8, Shown, Skipped, pinned
from jobs.data.decode import DecodeError
from jobs.data.load import Progress
from jobs.data.roots import Roots
from jobs.data.sound import F32, Heard, heard
from jobs.data.source import printable, spread
from jobs.data.talkingcartoon import Truth
from jobs.data.video import ClipFiles, list_clips, read_boxes, read_clip
from jobs.errors import DataError
from jobs.spec.clips import Box, ClipData, ClipFolder, TalkingCartoon

MOST_PICTURES_BYTES = 256 << 20
"""Of single frames in main memory, for what judges single frames."""
_REMEMBERED_CLIPS = 256
_FORMAT = 1
MAX_SKIPPED_SHARE = 0.5
_DECODED = {"resolution", "channels", "fps", "fit", "frame_rate", "max_seconds"}
"""Keys of the section that change what is decoded of a file."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip, decoded; its frames are a read-only view of a file."""

    name: str
    frames_TCHW: ImagesU8
    waveform_S: F32
    truth: Truth | None = None


class ClipBatch(NamedTuple):
    """Windows of clips, in main memory (pinned where there is a GPU)."""

    video_NTCHW: Tensor
    """uint8."""
    still_NCHW: Tensor
    """uint8: another frame of the same clip, outside of the window."""
    audio_NTCK: Tensor
    """float32: what is heard with each frame."""
    misaligned_NTCK: Tensor
    """What is heard at another time of the same clip, at least `offset_frames` away."""


class Conditions(NamedTuple):
    """What videos are made from."""

    still_NCHW: Tensor
    """uint8."""
    audio_NTCK: Tensor
    """float32."""


@dataclass(frozen=True, eq=False)
class ClipDataset:
    """Clips to learn from and clips that are held out. An epoch shows every window of every clip about once."""

    digest: str
    section: ClipData
    clips: tuple[Clip, ...]
    held_out: tuple[Clip, ...]
    skipped: tuple[Skipped, ...]
    images_NCHW: ImagesU8
    """Frames of the clips to learn from, spread over all of them."""
    labels_N: None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Clip and window of every example, [N, 2]."""
        counts = [len(clip.frames_TCHW) // self.section.window_frames for clip in self.clips]
        return np.array([(clip, slot) for clip, count in enumerate(counts) for slot in range(count)], np.int64)

    def gather(self, seen: Shown) -> ClipBatch:
        """The windows that `seen` names; where exactly they begin is drawn by (seed, position)."""
        places = zip(seen.position_N.tolist(), seen.index_N.tolist(), strict=True)
        windows = [self._window(seen.seed, position, index) for position, index in places]
        video, still, audio, misaligned = (np.stack(part) for part in zip(*windows, strict=True))
        if seen.mirrored_N.any():
            video[seen.mirrored_N] = video[seen.mirrored_N, ..., ::-1]
            still[seen.mirrored_N] = still[seen.mirrored_N, ..., ::-1]
        return ClipBatch(*(pinned(torch.from_numpy(part)) for part in (video, still, audio, misaligned)))

    def conditions(self, count: int, seed: int) -> Conditions:
        """`count` windows of clips to learn from: stills and sound."""
        draws = np.random.PCG64([seed, 21]).random_raw(count)
        index_N = (draws % np.uint64(len(self))).astype(np.int64)
        batch = self.gather(Shown(seed, np.arange(count), index_N, np.zeros(count, np.bool_)))
        return Conditions(batch.still_NCHW, batch.audio_NTCK)

    def whole(self, clip: Clip, sound_of: Clip | None = None) -> Conditions:
        """All of a clip, as a batch of one; or its face with the sound of another, over the frames that both have."""
        source = sound_of or clip
        frames = min(len(clip.frames_TCHW), len(source.frames_TCHW))
        windows = self.heard(source).windows(0, frames)
        still = np.asarray(clip.frames_TCHW[self._still(len(clip.frames_TCHW))])
        return Conditions(torch.from_numpy(still[None].copy()), torch.from_numpy(windows[None]))

    def heard(self, clip: Clip) -> Heard:
        """The windows of sound of a clip; those of the last clips asked for are remembered."""
        return _heard(clip, self.section)

    def _still(self, frames: int) -> int:
        return frames - 1 if self.section.reference == "last" else 0

    def _window(self, seed: int, position: int, index: int) -> tuple[NDArray[np.generic], ...]:
        which, slot = self._places[index]
        clip, width = self.clips[which], self.section.window_frames
        frames = len(clip.frames_TCHW)
        draws = np.random.PCG64([seed, position, 22]).random_raw(3).tolist()
        starts = frames - width  # one frame is the still's
        start = (int(slot) * width + draws[0] % width) % starts + (self.section.reference != "last")
        still = self._still(frames)
        if self.section.reference == "random":
            still = (start + width + draws[1] % (frames - width)) % frames
        others = [at for at in range(frames - width + 1) if abs(at - start) >= self.section.offset_frames]
        other = others[draws[2] % len(others)]
        sound = self.heard(clip)
        return (
            np.asarray(clip.frames_TCHW[start : start + width]),
            np.asarray(clip.frames_TCHW[still]),
            sound.windows(start, start + width),
            sound.windows(other, other + width),
        )


@lru_cache(maxsize=_REMEMBERED_CLIPS)
def _heard(clip: Clip, section: ClipData) -> Heard:
    return heard(clip.waveform_S, len(clip.frames_TCHW), section)


def open_cartoon(section: TalkingCartoon, *, cache_dir: Path, progress: Progress | None = None) -> ClipDataset:
    """The drawn clips of `section`, from the cache if they are there. Raises DataError if it cannot be written."""
    shown = {"mirror", "window_frames", "offset_frames", "reference", "mouth", "audio"}
    digest = _sha256(section.model_dump(exclude=shown), section.audio.rate, talkingcartoon.version(section))
    total = talkingcartoon.clip_count(section)

    def make(number: int) -> Clip:
        return open_clip(cache_dir, _sha256(digest, number), lambda: _drawn(section, number))

    clips = _in_order(make, total, progress)
    return ClipDataset(
        digest=_sha256(digest, section.model_dump()),
        section=section,
        clips=tuple(clips[: section.clips]),
        held_out=tuple(clips[section.clips :]),
        skipped=(),
        images_NCHW=spread_frames(clips[: section.clips]),
    )


def open_clip_folder(
    section: ClipFolder, *, cache_dir: Path, roots: Roots, progress: Progress | None = None
) -> ClipDataset:
    """The clips of a folder; those that cannot be decoded, or are too short for a window, are skipped and named.

    Raises DataError where too few are left, or more than half of them are skipped.
    """
    every, boxes = list_clips(section, roots), read_boxes(section, roots)
    listed = [every[at] for at in spread(len(every), section.max_clips)]
    skipped: dict[str, str] = {}
    keys: dict[str, str] = {}

    def make(number: int) -> Clip | None:
        files = listed[number]
        box = boxes.get(files.name, section.box)
        content = content_digest(files.files, cache_dir / "digests")
        keys[files.name] = _sha256(content, section.model_dump(include=_DECODED), section.audio.rate, box)
        try:
            clip = open_clip(cache_dir, keys[files.name], lambda: _decoded(files, section, box))
        except (DecodeError, OSError) as error:
            skipped[files.name] = str(error)
            return None
        if len(clip.frames_TCHW) < section.least_frames:
            skipped[files.name] = (
                f"has {len(clip.frames_TCHW)} frames, needs {section.least_frames} (see offset_frames)"
            )
            return None
        return clip

    clips = [clip for clip in _in_order(make, len(listed), progress) if clip is not None]
    named = tuple(Skipped(printable(name), printable(skipped[name])) for name in sorted(skipped))
    _refuse_too_few(section, len(clips), named)
    kept = len(clips) - section.held_out_clips
    return ClipDataset(
        digest=_sha256(sorted(keys.items()), section.model_dump(exclude={"path", "boxes"})),
        section=section,
        clips=tuple(clips[:kept]),
        held_out=tuple(clips[kept:]),
        skipped=named,
        images_NCHW=spread_frames(clips[:kept]),
    )


def _decoded(files: ClipFiles, section: ClipFolder, box: Box | None) -> Clip:
    return Clip(files.name, *read_clip(files, section, box))


def _refuse_too_few(section: ClipFolder, good: int, skipped: tuple[Skipped, ...]) -> None:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    said = f" ({len(skipped)} are skipped: {reasons})" if skipped else ""
    if good < section.held_out_clips + 2:
        raise DataError(
            f"data: {good} clips are not enough to hold out {section.held_out_clips} and learn from two{said}",
            hint="lower held_out_clips, window_frames or offset_frames, or add clips",
        )
    if len(skipped) > MAX_SKIPPED_SHARE * (good + len(skipped)):
        raise DataError(f"data: more than half of the clips cannot be used{said}")


def _drawn(section: TalkingCartoon, number: int) -> Clip:
    drawn = talkingcartoon.draw_clip(section, number)
    return Clip(drawn.name, drawn.frames_TCHW, drawn.waveform_S, drawn.truth)


ClipT = TypeVar("ClipT")


def _in_order(make: Callable[[int], ClipT], total: int, progress: Progress | None) -> list[ClipT]:
    clips = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "gankiln-clips") as pool:
        for done, clip in enumerate(pool.map(make, range(total)), 1):
            clips.append(clip)
            if progress is not None:
                progress(done, total)
    return clips


def spread_frames(clips: list[Clip]) -> ImagesU8:
    """Frames [N, C, H, W] of all clips, evenly, as many as `MOST_PICTURES_BYTES` allow."""
    each_bytes = int(np.prod(clips[0].frames_TCHW.shape[1:]))
    total = sum(len(clip.frames_TCHW) for clip in clips)
    step = max(1, -(-total * each_bytes // MOST_PICTURES_BYTES))
    return np.concatenate([np.asarray(clip.frames_TCHW[at % step :: step]) for at, clip in enumerate(clips)])


def open_clip(cache_dir: Path, key: str, make: Callable[[], Clip]) -> Clip:
    """The clip `key`, from its cache entry; `make` gives it where the entry is missing or damaged."""
    entry = cache_dir / "clips" / key
    if (clip := _read(entry)) is not None:
        return clip
    clip = make()
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{key}.aside-", dir=entry.parent))
        try:
            _write(aside, clip)
            shutil.rmtree(entry, ignore_errors=True)  # a damaged one; open maps of it stay valid
            aside.rename(entry)
        except OSError:
            if _read(entry) is None:  # else another process was faster: either entry is right
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"data: the cache {str(cache_dir)!r} cannot be written: {error.strerror or error}",
            hint="free space there, or put the cache on a larger disk",
        ) from error
    return _read(entry) or clip


def _write(folder: Path, clip: Clip) -> None:
    np.save(folder / "waveform.npy", clip.waveform_S)
    if clip.truth is not None:
        np.savez(folder / "truth.npz", **asdict(clip.truth))
    (folder / "clip.json").write_text(json.dumps({"name": clip.name, "truth": clip.truth is not None}))
    with (folder / "frames.npy").open("wb") as file:
        np.save(file, clip.frames_TCHW)
        file.flush()
        os.fsync(file.fileno())


def _read(folder: Path) -> Clip | None:
    """The clip in `folder`, its frames mapped; None where any part of it is missing or damaged."""
    try:
        about = json.loads((folder / "clip.json").read_bytes())
        frames = np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False)
        waveform = np.load(folder / "waveform.npy", allow_pickle=False)
        truth = None
        if about["truth"]:
            with np.load(folder / "truth.npz", allow_pickle=False) as arrays:
                truth = Truth(int(arrays["identity"]), arrays["opening_T"], arrays["eyes_T"], arrays["landmarks_TK2"])
        whole = frames.dtype == np.uint8 and frames.ndim == 4 and waveform.ndim == 1
        return Clip(str(about["name"]), frames, waveform, truth) if whole else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _sha256(*parts: object) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, *parts], sort_keys=True, default=str).encode()).hexdigest()
