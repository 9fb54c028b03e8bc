"""PCM wav files, read and written with what comes with Python."""

import io
import wave
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import DecodeError

F32 = NDArray[np.float32]


def read_wav(path: Path, rate: int, most_seconds: float) -> F32:
    """The samples at `path` as mono in [-1, 1], at `rate` a second; at most `most_seconds` of them.

    Raises DecodeError where it is no PCM wav.
    """
    from scipy.signal import resample_poly  # takes half a second, and few runs come here before their first step

    try:
        with wave.open(str(path), "rb") as file:
            channels, width, own_rate, count = file.getparams()[:4]
            content = file.readframes(min(count, int(most_seconds * own_rate)))
    except (OSError, EOFError, wave.Error) as error:
        raise DecodeError(f"not a PCM wav file that can be read ({error})") from None
    sample_S = _scaled(content, width).reshape(-1, channels).mean(1)
    divisor = gcd(rate, own_rate)
    return np.asarray(resample_poly(sample_S, rate // divisor, own_rate // divisor), np.float32)


def wav_bytes(waveform_S: F32, rate: int) -> bytes:
    """Samples in [-1, 1] as a mono wav file of 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((waveform_S * 32767).round().clip(-32768, 32767).astype("<i2").tobytes())
    return file.getvalue()


def _scaled(content: bytes, width: int) -> NDArray[np.float64]:
    """PCM of 1 (unsigned), 2, 3 or 4 bytes a sample, in [-1, 1]."""
    match width:
        case 1:
            return (np.frombuffer(content, np.uint8).astype(np.float64) - 128) / 128
        case 3:
            bytes_S3 = np.frombuffer(content, np.uint8).reshape(-1, 3).astype(np.int32)
            value_S = bytes_S3[:, 0] | bytes_S3[:, 1] << 8 | bytes_S3[:, 2] << 16
            return np.where(value_S >= 1 << 23, value_S - (1 << 24), value_S) / 2.0**23
        case _:
            return np.frombuffer(content, f"<i{width}").astype(np.float64) / 2.0 ** (8 * width - 1)
