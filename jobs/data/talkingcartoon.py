"""TalkingCartoon: drawn faces that speak made sentences; everything that is measured on faces is exactly known here.

A face has a fixed shape, skin, hair and eyes (its identity) and a voice; its mouth follows the sounds, its eyes blink
at random. Shapes are ellipses whose cover of a pixel is integrated exactly along the vertical, so that a mouth that
opens by a tenth of a pixel changes the picture. Lengths are shares of the frame, from its middle, down and right.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from jobs.data.dataset import ImagesU8
from jobs.data.espeak import espeak_version, speak_aloud
from jobs.data.speech import CONTROL_HZ, F32, F64, SENTENCES, Spoken, Voice, sentence, speak, uniform
from jobs.spec.clips import TalkingCartoon

VERSION = 1
"""Raise it when the same section draws other clips."""
LANDMARKS = ("left corner", "right corner", "upper lip", "lower lip", "left eye", "right eye")
MOST_OPENING = 0.16
"""Height of the opening of a mouth that says `aa`."""
BLINK_SECONDS = 0.2
_SUB_COLUMNS = 3


@dataclass(frozen=True)
class Truth:
    """What a clip really shows."""

    identity: int
    opening_T: F32
    """Height of the mouth's opening, in pixels."""
    eyes_T: F32
    """1 open, 0 closed."""
    landmarks_TK2: F32
    """Column and row in pixels, of `LANDMARKS`."""


@dataclass(frozen=True)
class DrawnClip:
    """One clip, made."""

    name: str
    frames_TCHW: ImagesU8
    waveform_S: F32
    truth: Truth


@dataclass(frozen=True)
class Face:
    """An identity: a shape, colours (in [0, 1], rgb) and a voice."""

    head: tuple[float, float]
    """Half width, half height."""
    skin: F64
    hair: F64
    ground: F64
    fringe: float
    """How far hair reaches down from the top of the head."""
    eye_apart: float
    eye_down: float
    eye_size: float
    iris: F64
    brow_raise: float
    mouth_down: float
    mouth_half_width: float
    lips: F64
    voice: Voice


def version(section: TalkingCartoon) -> str:
    """Of what the section alone does not say: our drawing, and whose voice it is."""
    return f"{VERSION}, {espeak_version()}" if section.speech == "espeak" else str(VERSION)


def face(section: TalkingCartoon, identity: int) -> Face:
    """The face and voice of an identity; every number is drawn by (seed, identity)."""
    d = iter(uniform(np.random.PCG64([section.seed, 11, identity]), 32).tolist())
    tone, blush = 0.45 + 0.4 * next(d), 0.06 * next(d)
    skin = np.array([tone + blush, tone * (0.86 + 0.08 * next(d)), tone * (0.70 + 0.12 * next(d))])
    dark = 0.08 + 0.3 * next(d)
    return Face(
        head=(0.28 + 0.06 * next(d), 0.37 + 0.06 * next(d)),
        skin=skin,
        hair=np.array([dark, dark * (0.6 + 0.4 * next(d)), dark * (0.4 + 0.5 * next(d))]),
        ground=np.array([0.55 + 0.4 * next(d), 0.55 + 0.4 * next(d), 0.55 + 0.4 * next(d)]),
        fringe=0.10 + 0.12 * next(d),
        eye_apart=0.12 + 0.03 * next(d),
        eye_down=-0.08 + 0.04 * next(d),
        eye_size=0.055 + 0.02 * next(d),
        iris=np.array([0.1 + 0.2 * next(d), 0.1 + 0.25 * next(d), 0.1 + 0.3 * next(d)]),
        brow_raise=0.08 + 0.03 * next(d),
        mouth_down=0.21 + 0.03 * next(d),
        mouth_half_width=0.12 + 0.03 * next(d),
        lips=skin * np.array([0.85, 0.55 + 0.1 * next(d), 0.6]),
        voice=Voice(90 + 130 * next(d), 0.92 + 0.25 * next(d)),
    )


def clip_count(section: TalkingCartoon) -> int:
    """Clips in all: those to train on, then the held-out ones."""
    return section.clips + section.held_out_clips


def draw_clip(section: TalkingCartoon, number: int) -> DrawnClip:
    """Clip `number`, a pure function of the section. Numbers from `clips` on are held out, with faces of their own."""
    held_out = number >= section.clips
    identity = section.identities + (number - section.clips) % 1000 if held_out else number % section.identities
    shown = face(section, identity)
    bits = np.random.PCG64([section.seed, 12, number])
    words = sentence(sentence_number(section, number))
    spoken = _say(section, words, shown, bits)
    frames = int(section.seconds * section.fps)
    lips_T3 = _at_frames(spoken.lips_L3, frames, section.fps)
    eyes_T = _blinks(section, frames, bits)
    frames_TCHW = _draw(shown, lips_T3, eyes_T, section.resolution, grey=section.channels == "grey")
    truth = _truth(shown, identity, lips_T3, eyes_T, section.resolution)
    return DrawnClip(f"{number:05d} {' '.join(words)}", frames_TCHW, spoken.waveform_S, truth)


def sentence_number(section: TalkingCartoon, number: int) -> int:
    """No sentence is said twice before all have been: a permutation of them, drawn by the seed."""
    return int(_sentence_order(section.seed)[number % SENTENCES])


@lru_cache(maxsize=4)
def _sentence_order(seed: int) -> NDArray[np.int64]:
    return np.argsort(np.random.PCG64([seed, 13]).random_raw(SENTENCES), kind="stable")


def _say(section: TalkingCartoon, words: tuple[str, ...], shown: Face, bits: np.random.PCG64) -> Spoken:
    if section.speech == "espeak":
        return speak_aloud(words, shown.voice, seconds=section.seconds, rate=section.audio.rate)
    return speak(words, shown.voice, seconds=section.seconds, rate=section.audio.rate, bits=bits)


def _at_frames(curve_LX: F64, frames: int, fps: int) -> F64:
    """A control curve in the middle of every frame."""
    moments_T = (np.arange(frames) + 0.5) / fps * CONTROL_HZ - 0.5
    return np.stack([np.interp(moments_T, np.arange(len(curve_LX)), column) for column in curve_LX.T], axis=1)


def _blinks(section: TalkingCartoon, frames: int, bits: np.random.PCG64) -> F64:
    """How open the eyes are [T]: they close and open again within `BLINK_SECONDS`, at random moments."""
    draws = uniform(bits, frames)
    starts = np.flatnonzero(draws < section.blinks_per_second / section.fps)
    moments_T = np.arange(frames) / section.fps
    open_T = np.ones(frames)
    for start in starts:
        into_T = (moments_T - moments_T[start]) / BLINK_SECONDS
        open_T = np.minimum(open_T, np.where((into_T >= 0) & (into_T <= 1), np.abs(2 * into_T - 1), 1.0))
    return open_T


def _mouth(shown: Face, lips_T3: F64) -> tuple[F64, F64]:
    """Half width and half height of the mouth's opening [T]."""
    opening_T, width_T, rounding_T = lips_T3.T
    half_width_T = shown.mouth_half_width * (0.8 + 0.25 * width_T - 0.35 * rounding_T)
    return half_width_T, MOST_OPENING / 2 * opening_T


def _truth(shown: Face, identity: int, lips_T3: F64, eyes_T: F64, resolution: int) -> Truth:
    half_width_T, half_height_T = _mouth(shown, lips_T3)
    still_T = np.zeros_like(half_width_T)
    places = (
        (-half_width_T, shown.mouth_down + still_T), (half_width_T, shown.mouth_down + still_T),
        (still_T, shown.mouth_down - half_height_T), (still_T, shown.mouth_down + half_height_T),
        (still_T - shown.eye_apart, shown.eye_down + still_T), (still_T + shown.eye_apart, shown.eye_down + still_T),
    )  # fmt: skip
    landmarks_TK2 = np.stack([np.stack(place, axis=1) for place in places], axis=1)
    return Truth(
        identity,
        (2 * half_height_T * resolution).astype(np.float32),
        eyes_T.astype(np.float32),
        ((landmarks_TK2 + 0.5) * resolution - 0.5).astype(np.float32),
    )


def _draw(shown: Face, lips_T3: F64, eyes_T: F64, resolution: int, *, grey: bool) -> ImagesU8:
    """Frames [T, C, R, R]: what does not move is painted once."""
    canvas = _Canvas(resolution)
    still_CHW = _still(canvas, shown)
    frames_TCHW = np.repeat(still_CHW[None], len(lips_T3), axis=0)
    half_width_T, half_height_T = _mouth(shown, lips_T3)
    lip = 0.022
    for at, frame_CHW in enumerate(frames_TCHW):
        for side in (-1, 1):
            eye = (side * shown.eye_apart, shown.eye_down)
            half_open = max(shown.eye_size * 0.6 * eyes_T[at], 0.006)
            white_HW = canvas.lens(*eye, shown.eye_size, half_open)
            pupil_HW = np.minimum(canvas.lens(*eye, shown.eye_size * 0.45, shown.eye_size * 0.45), white_HW)
            _paint(frame_CHW, white_HW, np.full(3, 0.95) if eyes_T[at] > 0.1 else shown.skin * 0.5)
            _paint(frame_CHW, pupil_HW, shown.iris)
        mouth = (0.0, shown.mouth_down)
        _paint(frame_CHW, canvas.lens(*mouth, half_width_T[at] + lip, half_height_T[at] + lip), shown.lips)
        _paint(frame_CHW, canvas.lens(*mouth, half_width_T[at], half_height_T[at]), np.array([0.12, 0.03, 0.04]))
    if grey:
        frames_TCHW = np.einsum("tchw,c->thw", frames_TCHW, [0.299, 0.587, 0.114])[:, None]  # BT.601
    return (frames_TCHW * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _still(canvas: "_Canvas", shown: Face) -> F64:
    """Ground, hair, head, brows and nose [3, R, R]."""
    image_CHW = np.empty((3, canvas.resolution, canvas.resolution))
    image_CHW[:] = shown.ground[:, None, None]
    half_width, half_height = shown.head
    _paint(image_CHW, canvas.lens(0, -0.06, half_width + 0.05, half_height + 0.03), shown.hair)
    head_HW = canvas.lens(0, 0, half_width, half_height)
    below_HW = canvas.below(-half_height + shown.fringe)
    _paint(image_CHW, np.minimum(head_HW, below_HW), shown.skin)
    for side in (-1, 1):
        brow_down = shown.eye_down - shown.brow_raise
        _paint(image_CHW, canvas.lens(side * shown.eye_apart, brow_down, shown.eye_size, 0.012), shown.hair)
    _paint(image_CHW, canvas.lens(0, 0.06, 0.022, 0.045), shown.skin * 0.82)
    return image_CHW


class _Canvas:
    """The pixels of a frame, and how much of each a shape covers, in [0, 1]."""

    def __init__(self, resolution: int) -> None:
        self.resolution, self.pixel = resolution, 1 / resolution
        self.row_H = (np.arange(resolution) + 0.5) * self.pixel - 0.5
        fine = resolution * _SUB_COLUMNS
        self._column_X = (np.arange(fine) + 0.5) / fine - 0.5

    def lens(self, x: float, y: float, half_width: float, half_height: float) -> F64:
        """An ellipse [R, R]: exact along the vertical, a mean of three columns along the horizontal."""
        inside_X = 1 - ((self._column_X - x) / half_width) ** 2
        reach_X = half_height * np.sqrt(inside_X.clip(min=0))
        top_H, bottom_H = self.row_H - self.pixel / 2 - y, self.row_H + self.pixel / 2 - y
        covered_HX = np.minimum(bottom_H[:, None], reach_X) - np.maximum(top_H[:, None], -reach_X)
        covered_HX = covered_HX.clip(0, self.pixel) / self.pixel
        return covered_HX.reshape(self.resolution, self.resolution, _SUB_COLUMNS).mean(2)

    def below(self, y: float) -> F64:
        """Everything below a level [R, R]."""
        covered_H = ((self.row_H + self.pixel / 2 - y) / self.pixel).clip(0, 1)
        return np.repeat(covered_H[:, None], self.resolution, axis=1)


def _paint(image_CHW: NDArray[np.float64], cover_HW: F64, colour_C: F64) -> None:
    image_CHW += cover_HW * (colour_C[:, None, None] - image_CHW)
