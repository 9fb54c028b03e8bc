"""Write TalkingCartoon as folders of frames with their sound, for other tools and other eyes; `kind: clips` reads them.

OUT/talkingcartoon/00000-bin-blue-at-f-two-now/0000.png ...   one a frame
                                               sound.wav
                                               truth.json     opening, eyes, landmarks of every frame; identity
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.data.talkingcartoon import LANDMARKS, DrawnClip, clip_count, draw_clip
from jobs.data.wav import wav_bytes
from jobs.errors import DataError
from jobs.spec.clips import TalkingCartoon


def make_clips(section: TalkingCartoon, out: Path) -> Path:
    """Writes every clip of `section`, the held-out ones last, below `out`; gives their folder.

    Raises DataError where it cannot be written.
    """
    folder = out / section.kind
    try:
        for number in range(clip_count(section)):
            clip = draw_clip(section, number)
            _write(folder / clip.name.replace(" ", "-"), clip, section.audio.rate)
    except OSError as error:
        raise DataError(f"{str(folder)!r} cannot be written: {error.strerror or error}") from error
    return folder


def _write(folder: Path, clip: DrawnClip, rate: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for at, frame_CHW in enumerate(clip.frames_TCHW):
        file = io.BytesIO()
        Image.fromarray(frame_CHW[0] if len(frame_CHW) == 1 else frame_CHW.transpose(1, 2, 0)).save(file, "PNG")
        (folder / f"{at:04d}.png").write_bytes(file.getvalue())
    (folder / "sound.wav").write_bytes(wav_bytes(clip.waveform_S, rate))
    truth = clip.truth
    told = {
        "identity": truth.identity,
        "opening_pixels": np.round(truth.opening_T.astype(float), 4).tolist(),
        "eyes_open": np.round(truth.eyes_T.astype(float), 4).tolist(),
        "landmarks": {
            name: np.round(truth.landmarks_TK2[:, at].astype(float), 3).tolist() for at, name in enumerate(LANDMARKS)
        },
    }
    (folder / "truth.json").write_text(json.dumps(told))
