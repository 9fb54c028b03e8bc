"""Speech by espeak-ng (the extra `speech`): better voices than our own synthesis, with the time of every sound known.

The library is loaded by ctypes from the package `espeakng-loader`, which bundles it with its data; it is GPL-3, so it
is used to make data, and nothing else here depends on it. One process has one espeak: a lock keeps threads apart.
"""

import ctypes
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import numpy as np

from jobs.data.speech import PHONEMES, Event, Spoken, Voice, lips_of
from jobs.data.wav import F32
from jobs.errors import DataError

_RETRIEVAL, _PHONEME_EVENTS = 1, 0x0001
_LIST_TERMINATED, _PHONEME = 0, 7
_CHARS_UTF8 = 1
_RATE, _PITCH = 1, 3
_WORDS_A_MINUTE = 150
_LOCK = threading.Lock()
_QUIET_SHARE = 0.08
"""Of a clip, before and after the sentence, at least."""

_NEAREST: dict[str, str] = {
    # espeak-ng's mnemonics of English sounds, to those whose lips we know; longest first decides.
    "aI": "aa", "aU": "aa", "OI": "ao", "eI": "eh", "oU": "ao", "i:": "iy", "u:": "uw", "A:": "aa", "O:": "ao",
    "3:": "er", "tS": "sh", "dZ": "jh", "I": "ih", "i": "iy", "E": "eh", "a": "ae", "A": "aa", "V": "ah", "0": "aa",
    "U": "uh", "O": "ao", "@": "ah", "3": "er", "e": "eh", "o": "ao", "u": "uw", "m": "m", "n": "n", "N": "n", "b": "b",
    "p": "p", "d": "d", "t": "t", "g": "g", "k": "k", "f": "f", "v": "v", "T": "th", "D": "dh", "s": "s", "z": "z",
    "S": "sh", "Z": "jh", "r": "r", "l": "l", "w": "w", "j": "y", "h": "h",
}  # fmt: skip


class _Event(ctypes.Structure):
    """espeak_EVENT."""

    class _Id(ctypes.Union):
        _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))

    _fields_ = (
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    )  # fmt: skip


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def speak_aloud(words: Sequence[str], voice: Voice, *, seconds: float, rate: int) -> Spoken:
    """`words` within `seconds`, at `rate` samples a second; faster speech where they would not fit.

    Raises DataError where the package is absent, or where the sentence does not fit at any speed.
    """
    from scipy.signal import resample_poly  # takes half a second, and few runs come here before their first step

    with _LOCK:
        sample_S, events, own_rate = _fitting(" ".join(words), voice, seconds)
    divisor = int(np.gcd(rate, own_rate))
    said_S = resample_poly(sample_S, rate // divisor, own_rate // divisor)
    start = round((seconds * rate - len(said_S)) / 2)
    waveform_S = np.zeros(round(seconds * rate), np.float32)
    waveform_S[start : start + len(said_S)] = said_S
    moved = [Event(event.seconds + start / rate, event.phoneme) for event in events]
    heard = (Event(0.0, "-"), *moved, Event((start + len(said_S)) / rate, "-"))
    peak = max(float(np.abs(waveform_S).max()), 1e-9)
    return Spoken((0.7 * waveform_S / peak).astype(np.float32), lips_of(heard, seconds), heard)


def espeak_version() -> str:
    """Of the package that brings it; empty where it is absent."""
    try:
        return metadata.version("espeakng-loader")
    except metadata.PackageNotFoundError:
        return ""


def _fitting(text: str, voice: Voice, seconds: float) -> tuple[F32, list[Event], int]:
    """`text` at the slowest of some speeds at which it fits, its sounds, and samples a second."""
    for speed in (_WORDS_A_MINUTE, 200, 260, 340, 450):
        with _library() as (library, own_rate):
            sample_S, events = _synthesised(library, text, voice, speed)
        if len(sample_S) <= (1 - 2 * _QUIET_SHARE) * seconds * own_rate:
            return sample_S, events, own_rate
    raise DataError(f"data.seconds: {text!r} cannot be said in {seconds} s", hint="write more seconds")


@contextmanager
def _library() -> Iterator[tuple[Any, int]]:
    """The library and its samples a second, loaded anew and unloaded: what it said before would change what it says."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise DataError(
            "data.speech: espeak needs the package espeakng-loader, which is not installed",
            hint="pip install 'gankiln[speech]', or write speech: formant",
        )
    import espeakng_loader  # an extra

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path().encode()
    try:
        own_rate = int(library.espeak_Initialize(_RETRIEVAL, 0, data, _PHONEME_EVENTS))
        if own_rate <= 0 or library.espeak_SetVoiceByName(b"en-us"):
            raise DataError("data.speech: espeak-ng does not start", hint="write speech: formant")
        yield library, own_rate
        library.espeak_Terminate()
    finally:
        ctypes.CDLL(None).dlclose(ctypes.c_void_p(library._handle))


def _synthesised(library: Any, text: str, voice: Voice, speed: int) -> tuple[F32, list[Event]]:
    parts: list[F32] = []
    events: list[Event] = []

    def receive(wave: Any, count: int, event: Any) -> int:
        if wave and count > 0:
            parts.append(np.ctypeslib.as_array(wave, (count,)).astype(np.float32) / np.float32(32768))
        at = 0
        while event[at].type != _LIST_TERMINATED:
            if event[at].type == _PHONEME:
                name = event[at].id.string.decode("utf-8", "replace")
                events.append(Event(event[at].audio_position / 1000, _nearest(name)))
            at += 1
        return 0

    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetParameter(_RATE, speed, 0)
    library.espeak_SetParameter(_PITCH, int(np.clip((voice.pitch_hz - 60) / 2, 0, 99)), 0)
    content = text.encode()
    library.espeak_Synth(content, len(content) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    return np.concatenate(parts) if parts else np.zeros(1, np.float32), events


def _nearest(mnemonic: str) -> str:
    """The sound of ours with the lips of espeak's `mnemonic`; a pause where it is none."""
    plain = mnemonic.lstrip("',%")  # marks of stress
    for length in (2, 1):
        if (found := _NEAREST.get(plain[:length])) is not None:
            assert found in PHONEMES
            return found
    return "-"
