"""The section `data:` of a recipe that learns from speaking faces: clips of frames with their sound.

    data: {kind: talkingcartoon, resolution: 32, clips: 200, window_frames: 10}

Whatever the files hold, the networks see square frames at `fps`, and for every frame the sound around its middle. An
example is a window of consecutive frames; the run's clock, `images`, counts windows.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from jobs.spec.base import Section
from jobs.spec.data import SHIPPED_PREFIX, DataPath, Resolution

MFCC_HZ, MFCC_COUNT = 100, 13
"""Cepstra a second and coefficients in each, as SyncNet takes them (Chung and Zisserman 2016)."""

Box = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)],
            Annotated[float, Field(gt=0)]]  # fmt: skip
"""Left, top, right, bottom."""


class Sound(Section):
    """What a generator hears with each frame."""

    rate: int = Field(16_000, ge=8_000, le=48_000, description="Samples a second, mono; files are converted to it")
    feature: Literal["raw", "mfcc"] = Field(
        "raw", description="raw: the samples themselves. mfcc: 13 coefficients, 100 times a second"
    )
    context_frames: int = Field(
        2, ge=0, le=12, description="A window covers so many frames' time before and after its own; 2 at 25 fps: 0.2 s"
    )


class _Clips(Section):
    """What every kind of clips has in common."""

    resolution: Resolution = Field(description="Width and height of the frames in pixels: a power of two")
    channels: Literal["grey", "rgb"] = Field("grey", description="What a pixel holds")
    mirror: bool = Field(False, description="Show every window flipped left to right half of the time")
    fps: int = Field(25, ge=5, le=60, description="Frames a second; other rates are converted to it")
    audio: Sound = Sound()
    window_frames: int = Field(
        10, ge=2, le=250, description="Consecutive frames of an example; what a sequence or a GRU can look back on"
    )
    offset_frames: int = Field(
        10,
        ge=1,
        le=250,
        description="The sound of a misaligned example is at least so far from its frames. A clip needs "
        "window_frames + 2 · offset_frames + 1 frames, or it is skipped and named",
    )
    reference: Literal["first", "last", "random"] = Field(
        "first", description="Which frame of its clip is the still image; it never lies within the window"
    )
    held_out_clips: int = Field(8, ge=2, le=1000, description="Never trained on: what the metrics of speech look at")
    mouth: Box = Field(
        (0.25, 0.6, 0.75, 0.95), description="Where mouths are: left, top, right, bottom as shares of the frame"
    )

    @model_validator(mode="after")
    def _mouth_inside(self) -> Self:
        left, top, right, bottom = self.mouth
        if not (left < right <= 1 and top < bottom <= 1):
            raise ValueError("mouth: left < right and top < bottom are needed, as shares of the frame up to 1")
        return self

    @property
    def audio_shape(self) -> tuple[int, int]:
        """Channels and length of the window that belongs to one frame."""
        frames = 1 + 2 * self.audio.context_frames
        if self.audio.feature == "mfcc":
            return MFCC_COUNT, round(MFCC_HZ * frames / self.fps)
        return 1, round(self.audio.rate * frames / self.fps)

    @property
    def least_frames(self) -> int:
        """Frames that a clip must have: a still, and a misaligned window for every window."""
        return self.window_frames + 2 * self.offset_frames + 1


class TalkingCartoon(_Clips):
    """A generated set: drawn faces that speak. Mouth curves, blinks, landmarks and identities are exactly known.

    Every clip has a sentence of its own (the grammar of GRID has 64,000); the held-out clips show faces of their own.
    """

    kind: Literal["talkingcartoon"] = "talkingcartoon"
    resolution: Literal[32, 64, 128] = Field(64, description="Width and height of the frames in pixels")
    clips: int = Field(200, ge=2, le=60_000, description="Clips to train on")
    seconds: float = Field(2.0, ge=1.0, le=10.0, description="Length of a clip; the sentence is spoken in this time")
    identities: int = Field(50, ge=1, le=10_000, description="Faces and voices, in turns")
    blinks_per_second: float = Field(0.3, ge=0, le=2, description="How often eyes close, on average")
    speech: Literal["formant", "espeak"] = Field(
        "formant", description="formant: a synthesis of our own. espeak: espeak-ng, from the extra `speech`"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="The same seed draws the same clips")

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        frames = int(self.seconds * self.fps)
        if frames < self.least_frames:
            raise ValueError(
                f"seconds: {self.seconds} s are {frames} frames, but window_frames + 2 · offset_frames + 1 = "
                f"{self.least_frames} are needed"
            )
        return self


class ClipFolder(_Clips):
    """A directory of clips: video files with sound (mp4, webm, mkv, mov, avi), or folders of frames with one wav."""

    kind: Literal["clips"] = "clips"
    path: DataPath = Field(description="The directory, relative to the spec, sub-directories included")
    box: Box | None = Field(None, description="The face in every clip: left, top, right, bottom in pixels of the video")
    boxes: DataPath | None = Field(
        None, description="A JSON file {name of the clip: [left, top, right, bottom]}; what it does not name has `box`"
    )
    fit: Literal["crop", "pad", "stretch"] = Field("crop", description="How a box becomes square; as for still images")
    frame_rate: float = Field(25.0, gt=0, le=240, description="Of folders of frames, which do not say it themselves")
    max_clips: int | None = Field(None, ge=3, description="Use at most so many, spread evenly in the order of names")
    max_seconds: float = Field(60.0, gt=0, le=3600, description="Of each clip, from its beginning")

    @field_validator("path", "boxes")
    @classmethod
    def _not_shipped(cls, path: str | None) -> str | None:
        if path is not None and path.startswith(SHIPPED_PREFIX):
            raise ValueError(f"no clips come with gankiln, so {path!r} is none; a generated set is talkingcartoon")
        return path


ClipData = Annotated[TalkingCartoon | ClipFolder, Field(discriminator="kind")]
