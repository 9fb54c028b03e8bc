"""Speech that is made, not recorded: sentences, their sounds, a voice, and the mouth that belongs to them.

A source-filter synthesis (Klatt 1980) in its additive form: harmonics of the voice weighted by three formants, plus
noise in three bands. It is no beautiful voice, but its sounds differ as those of speech do, and the time of each is
known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CONTROL_HZ = 200
"""Curves of formants, loudness and lips are kept so often a second."""
LIPS_SECONDS, TRACT_SECONDS = 0.035, 0.012
"""Deviation of the Gaussian that makes neighbouring sounds run into one another: lips are slower than the tongue."""
QUIET_BEFORE, QUIET_AFTER = 0.08, 0.08
"""Least shares of a clip without speech."""


class Phoneme(NamedTuple):
    """One sound: how long, how voiced, its formants, its noise, and what the lips do."""

    seconds: float
    voice: float
    formants_hz: tuple[float, float, float]
    noise: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Loudness of breath below 2 kHz, from 2 to 4 kHz, above."""
    opening: float = 0.2
    width: float = 0.5
    rounding: float = 0.0


def _vowel(seconds: float, f1: float, f2: float, f3: float, lips: tuple[float, float, float]) -> Phoneme:
    return Phoneme(seconds, 1.0, (f1, f2, f3), (0.0, 0.0, 0.0), *lips)


PHONEMES: dict[str, Phoneme] = {
    # Formants of vowels: Peterson and Barney 1952, means of men.
    "iy": _vowel(0.11, 270, 2290, 3010, (0.30, 1.0, 0.0)),
    "ih": _vowel(0.09, 390, 1990, 2550, (0.40, 0.8, 0.0)),
    "eh": _vowel(0.11, 530, 1840, 2480, (0.60, 0.7, 0.0)),
    "ae": _vowel(0.13, 660, 1720, 2410, (0.80, 0.8, 0.0)),
    "ah": _vowel(0.09, 640, 1190, 2390, (0.65, 0.5, 0.0)),
    "aa": _vowel(0.13, 730, 1090, 2440, (1.00, 0.5, 0.0)),
    "ao": _vowel(0.12, 570, 840, 2410, (0.75, 0.2, 0.6)),
    "uh": _vowel(0.09, 440, 1020, 2240, (0.40, 0.2, 0.6)),
    "uw": _vowel(0.11, 300, 870, 2240, (0.25, 0.1, 1.0)),
    "er": _vowel(0.10, 490, 1350, 1690, (0.40, 0.4, 0.4)),
    "m": Phoneme(0.08, 0.35, (250, 1000, 2200), opening=0.0),
    "n": Phoneme(0.07, 0.40, (280, 1600, 2600), opening=0.25, width=0.6),
    "b": Phoneme(0.08, 0.15, (200, 800, 2200), (0.04, 0.0, 0.0), opening=0.0),
    "p": Phoneme(0.09, 0.0, (300, 900, 2300), (0.10, 0.02, 0.0), opening=0.0),
    "d": Phoneme(0.06, 0.20, (300, 1700, 2600), (0.0, 0.06, 0.04), opening=0.2),
    "t": Phoneme(0.07, 0.0, (300, 1700, 2600), (0.0, 0.12, 0.15), opening=0.2),
    "g": Phoneme(0.07, 0.20, (250, 2000, 2500), (0.04, 0.06, 0.0), opening=0.3),
    "k": Phoneme(0.08, 0.0, (300, 2000, 2500), (0.08, 0.10, 0.0), opening=0.3),
    "f": Phoneme(0.10, 0.0, (300, 1100, 2300), (0.03, 0.06, 0.08), opening=0.08),
    "v": Phoneme(0.07, 0.35, (250, 1100, 2300), (0.02, 0.03, 0.04), opening=0.08),
    "th": Phoneme(0.09, 0.0, (300, 1400, 2500), (0.02, 0.04, 0.06), opening=0.15),
    "dh": Phoneme(0.05, 0.40, (300, 1400, 2500), (0.0, 0.02, 0.02), opening=0.15),
    "s": Phoneme(0.11, 0.0, (300, 1700, 2600), (0.0, 0.06, 0.30), opening=0.12, width=0.8),
    "z": Phoneme(0.09, 0.30, (300, 1700, 2600), (0.0, 0.04, 0.20), opening=0.12, width=0.8),
    "sh": Phoneme(0.11, 0.0, (300, 1700, 2400), (0.05, 0.30, 0.12), opening=0.2, rounding=0.5),
    "jh": Phoneme(0.08, 0.20, (300, 1700, 2400), (0.04, 0.20, 0.08), opening=0.2, rounding=0.5),
    "r": Phoneme(0.07, 0.60, (310, 1060, 1380), opening=0.25, rounding=0.5),
    "l": Phoneme(0.07, 0.60, (360, 1300, 2600), opening=0.35),
    "w": Phoneme(0.08, 0.60, (290, 610, 2150), opening=0.1, width=0.1, rounding=1.0),
    "y": Phoneme(0.06, 0.60, (260, 2070, 3020), opening=0.2, width=0.9),
    "h": Phoneme(0.06, 0.0, (500, 1500, 2500), (0.06, 0.05, 0.02), opening=0.45),
    "-": Phoneme(0.05, 0.0, (500, 1500, 2500), opening=0.0),
}  # fmt: skip

GRAMMAR: tuple[dict[str, str], ...] = (  # of the GRID corpus (Cooke et al. 2006)
    {"bin": "b ih n", "lay": "l eh iy", "place": "p l eh iy s", "set": "s eh t"},
    {"blue": "b l uw", "green": "g r iy n", "red": "r eh d", "white": "w aa iy t"},
    {"at": "ae t", "by": "b aa iy", "in": "ih n", "with": "w ih th"},
    {
        "a": "eh iy", "b": "b iy", "c": "s iy", "d": "d iy", "e": "iy", "f": "eh f", "g": "jh iy", "h": "eh iy t sh",
        "i": "aa iy", "j": "jh eh iy", "k": "k eh iy", "l": "eh l", "m": "eh m", "n": "eh n", "o": "ao uw",
        "p": "p iy", "q": "k y uw", "r": "aa r", "s": "eh s", "t": "t iy", "u": "y uw", "v": "v iy", "x": "eh k s",
        "y": "w aa iy", "z": "z eh d",
    },
    {
        "zero": "z ih r ao uw", "one": "w ah n", "two": "t uw", "three": "th r iy", "four": "f ao r",
        "five": "f aa iy v", "six": "s ih k s", "seven": "s eh v ah n", "eight": "eh iy t", "nine": "n aa iy n",
    },
    {"again": "ah g eh n", "now": "n aa uw", "please": "p l iy z", "soon": "s uw n"},
)  # fmt: skip
SENTENCES = math.prod(len(words) for words in GRAMMAR)


@dataclass(frozen=True)
class Voice:
    """Who speaks."""

    pitch_hz: float
    tract: float
    """Formants are multiplied by this; short vocal tracts have larger ones."""


class Event(NamedTuple):
    """From when on a sound is heard."""

    seconds: float
    phoneme: str


@dataclass(frozen=True)
class Spoken:
    """A sentence as it is heard, and as it is seen."""

    waveform_S: F32
    """In [-1, 1]."""
    lips_L3: F64
    """Opening, width, rounding, each in [0, 1]; `CONTROL_HZ` times a second."""
    events: tuple[Event, ...]


def sentence(number: int) -> tuple[str, ...]:
    """The words of sentence `number` of `SENTENCES`."""
    words = []
    for choices in reversed(GRAMMAR):
        number, which = divmod(number, len(choices))
        words.append(list(choices)[which])
    return tuple(reversed(words))


def speak(words: Sequence[str], voice: Voice, *, seconds: float, rate: int, bits: np.random.PCG64) -> Spoken:
    """`words` within `seconds`, at `rate` samples a second; `bits` draws pauses and noise."""
    events = _timed(_sounds(words), seconds, bits)
    samples = round(seconds * rate)
    curves_LX = _curves(events, seconds)
    lips_L3 = _smooth(curves_LX[:, 7:], LIPS_SECONDS * CONTROL_HZ)
    tract_LX = _smooth(curves_LX[:, :7], TRACT_SECONDS * CONTROL_HZ)
    voiced_S = _voiced(tract_LX[:, 0], tract_LX[:, 1:4] * voice.tract, voice, samples, rate)
    wave_S = voiced_S + _noise(tract_LX[:, 4:], samples, rate, bits)
    return Spoken((0.7 * wave_S / max(np.abs(wave_S).max(), 1e-9)).astype(np.float32), lips_L3, events)


def lips_of(events: Sequence[Event], seconds: float) -> F64:
    """Opening, width, rounding [L, 3] over `seconds` of what is said at `events`."""
    return _smooth(_curves(events, seconds)[:, 7:], LIPS_SECONDS * CONTROL_HZ)


def _sounds(words: Sequence[str]) -> list[str]:
    lexicon = {word: sounds.split() for choices in GRAMMAR for word, sounds in choices.items()}
    return [sound for word in words for sound in (*lexicon[word], "-")][:-1]


def _timed(sounds: list[str], seconds: float, bits: np.random.PCG64) -> tuple[Event, ...]:
    """Each sound a little longer or shorter, all of them stretched to fill the clip but for a pause at both ends."""
    draws = uniform(bits, len(sounds) + 2)
    lengths = np.array([PHONEMES[sound].seconds for sound in sounds]) * (0.8 + 0.4 * draws[2:])
    before, after = QUIET_BEFORE + 0.05 * draws[0], QUIET_AFTER + 0.05 * draws[1]
    lengths *= seconds * (1 - before - after) / lengths.sum()
    starts = seconds * before + np.concatenate([[0.0], np.cumsum(lengths)])
    said = [Event(float(start), sound) for start, sound in zip(starts, sounds, strict=False)]
    return Event(0.0, "-"), *said, Event(float(starts[-1]), "-")


def _curves(events: Sequence[Event], seconds: float) -> F64:
    """Targets at every moment [L, 10]: voice, three formants, three noises, opening, width, rounding."""
    table = np.array([[p.voice, *p.formants_hz, *p.noise, p.opening, p.width, p.rounding] for p in PHONEMES.values()])
    names = list(PHONEMES)
    moments = (np.arange(round(seconds * CONTROL_HZ)) + 0.5) / CONTROL_HZ
    which = np.searchsorted([event.seconds for event in events], moments, side="right") - 1
    return table[np.array([names.index(event.phoneme) for event in events])[which]]


def _smooth(curve_LX: F64, deviation: float) -> F64:
    """Gaussian mean along time; the ends are held."""
    reach = math.ceil(4 * deviation)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    padded_LX = np.pad(curve_LX, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in padded_LX.T], axis=1)


def _voiced(loudness_L: F64, formants_L3: F64, voice: Voice, samples: int, rate: int) -> F64:
    """Σ_k a_k(t) sin(k φ(t)): harmonics k of the pitch, each as loud as the formants let it through."""
    count = len(loudness_L)
    pitch_L = voice.pitch_hz * (1.08 - 0.16 * np.arange(count) / count)  # it falls along a sentence
    harmonic_K = np.arange(1, int(0.45 * rate / (1.08 * voice.pitch_hz)) + 1)
    frequency_KL = harmonic_K[:, None] * pitch_L
    gain_KL = loudness_L / harmonic_K[:, None]
    for formant_L, band_hz in zip(formants_L3.T, (70.0, 100.0, 140.0), strict=True):
        ratio_KL = frequency_KL / formant_L
        gain_KL = gain_KL / np.sqrt((1 - ratio_KL**2) ** 2 + (ratio_KL * band_hz / formant_L) ** 2)
    moments_S = np.arange(samples) / rate * CONTROL_HZ - 0.5
    phase_S = 2 * np.pi * np.cumsum(np.interp(moments_S, np.arange(count), pitch_L)) / rate
    wave_S = np.zeros(samples)
    for k, gain_L in zip(harmonic_K, gain_KL, strict=True):
        wave_S += np.interp(moments_S, np.arange(count), gain_L) * np.sin(k * phase_S)
    return wave_S


def _noise(loudness_L3: F64, samples: int, rate: int, bits: np.random.PCG64) -> F64:
    """White noise, cut into three bands by its Fourier transform, each with its own loudness."""
    spectrum = np.fft.rfft(2 * uniform(bits, samples) - 1)
    frequency_hz = np.fft.rfftfreq(samples, 1 / rate)
    moments_S = np.arange(samples) / rate * CONTROL_HZ - 0.5
    wave_S = np.zeros(samples)
    for (low_hz, high_hz), loudness_L in zip(((500, 2000), (2000, 4000), (4000, 9000)), loudness_L3.T, strict=True):
        band_S = np.fft.irfft(spectrum * ((frequency_hz >= low_hz) & (frequency_hz < high_hz)), samples)
        wave_S += 8 * np.interp(moments_S, np.arange(len(loudness_L)), loudness_L) * band_S
    return wave_S


def uniform(bits: np.random.PCG64, count: int) -> F64:
    """`count` numbers in [0, 1), from raw draws, which numpy keeps equal between its versions."""
    return (bits.random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
