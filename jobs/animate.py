"""A still image and a voice, made to speak by a trained checkpoint; without its data and its discriminators."""

from pathlib import Path

import torch

from jobs.data.clips import Conditions
from jobs.data.decode import DecodeError, decode
from jobs.data.sound import heard
from jobs.data.wav import read_wav
from jobs.errors import DataError
from jobs.recipes.talking_face import TalkingFace
from jobs.report import movies, pictures
from jobs.sampling import load_recipe

MOST_STILL_BYTES = 64 << 20
MOST_SECONDS = 600
"""Of a voice; the rest is not heard."""


def animate(checkpoint: Path, still: Path, voice: Path, out: Path, seed: int = 0) -> int:
    """Writes an mp4 of the face in `still` saying what is heard in `voice`; returns its frames.

    `checkpoint` is what `gankiln sample` takes, of a talking face. The middle square of the still is used. Raises
    DataError where a file is not what it should be or PyAV is absent, StoreError where `out` cannot be written.
    """
    if not movies.can_write():
        raise DataError(movies.ABSENT, hint=movies.HINT)
    if out.suffix.lower() != ".mp4":
        raise DataError(f"--out: {out.name!r} does not end in .mp4, the one format that is written")
    job, recipe = load_recipe(checkpoint)
    if not isinstance(recipe, TalkingFace):
        raise DataError(f"{checkpoint}: a {job.recipe.kind}, and no talking_face: it makes no films")
    section = recipe.section.data
    try:
        waveform_S = read_wav(voice, section.audio.rate, MOST_SECONDS)
    except DecodeError as error:
        raise DataError(f"{voice}: {error}", hint="write it as PCM wav, 16 bits a sample") from None
    frames = int(len(waveform_S) / section.audio.rate * section.fps)
    if frames < 1:
        raise DataError(f"{voice}: shorter than one frame of {1 / section.fps:.3f} s")
    try:
        picture_CHW = decode(_read(still), section.resolution, section.channels, "crop")
    except DecodeError as error:
        raise DataError(f"{still}: not a picture that can be read ({error})") from None
    windows_TCK = heard(waveform_S, frames, section).windows(0, frames)
    given = Conditions(torch.from_numpy(picture_CHW[None].copy()), torch.from_numpy(windows_TCK[None]))
    film_TCHW = pictures.from_signed(recipe.film(given, seed).float().cpu().numpy())
    movies.write_mp4(out, film_TCHW, section.fps, waveform_S[: frames * section.audio.rate // section.fps],
                     section.audio.rate)  # fmt: skip
    return frames


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_STILL_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MOST_STILL_BYTES:
        raise DataError(f"{path}: larger than {MOST_STILL_BYTES >> 20} MiB")
    return content
