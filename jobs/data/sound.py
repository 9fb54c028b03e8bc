"""What a network hears with each frame: a window of samples, or of mel-frequency cepstra, around the frame's middle.

The cepstra are those that SyncNet takes: pre-emphasis 0.97, windows of 25 ms every 10 ms, 26 mel bands, 13 coefficients
of an orthonormal DCT-II, liftered by 22, the first replaced by the logarithm of the energy; samples on the scale of
16-bit integers. Energies below 1 on that scale count as 1: digital silence is a quiet sound, not an infinite one.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import dct

from jobs.spec.clips import MFCC_COUNT, MFCC_HZ, ClipData, Sound

F32 = NDArray[np.float32]

PRE_EMPHASIS, WINDOW_SECONDS, BANDS, LIFTER = 0.97, 0.025, 26, 22
LEAST_ENERGY = 1.0
_INT16 = 32768.0


def mfcc(waveform_S: F32, rate: int) -> F32:
    """Cepstra [13, L] of samples in [-1, 1]; number l is of the window around (l + 1/2) / 100 s, zeros beyond the ends.

    L is 100 times the length in seconds, rounded down.
    """
    size, hop = round(WINDOW_SECONDS * rate), rate / MFCC_HZ
    count = int(len(waveform_S) * MFCC_HZ / rate)
    scaled_S = np.asarray(waveform_S, np.float64) * _INT16
    emphasised_S = scaled_S - PRE_EMPHASIS * np.concatenate([[0.0], scaled_S[:-1]])
    padded_S = np.pad(emphasised_S, size)
    starts_L = np.round((np.arange(count) + 0.5) * hop - size / 2).astype(np.int64) + size
    points = 1 << (size - 1).bit_length()
    power_LF = np.abs(np.fft.rfft(sliding_window_view(padded_S, size)[starts_L], points)) ** 2 / points
    band_LB = (power_LF @ mel_filters(rate, points).T).clip(min=LEAST_ENERGY)
    cepstrum_LC = dct(np.log(band_LB), type=2, axis=1, norm="ortho")[:, :MFCC_COUNT]
    cepstrum_LC *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(MFCC_COUNT) / LIFTER)
    cepstrum_LC[:, 0] = np.log(power_LF.sum(1).clip(min=LEAST_ENERGY))
    return np.ascontiguousarray(cepstrum_LC.T, np.float32)


@lru_cache(maxsize=8)
def mel_filters(rate: int, points: int) -> NDArray[np.float64]:
    """Triangles [26, points / 2 + 1], corners evenly spaced in mel, 2595 log₁₀(1 + f / 700), up to rate / 2."""
    top_mel = 2595 * np.log10(1 + rate / 2 / 700)
    corners_hz = 700 * (10 ** (np.linspace(0, top_mel, BANDS + 2) / 2595) - 1)
    bins = np.floor((points + 1) * corners_hz / rate)
    bin_F = np.arange(points // 2 + 1)
    low, middle, high = (bins[shift : shift + BANDS, None] for shift in range(3))
    rising = (bin_F - low) / np.maximum(middle - low, 1)
    falling = (high - bin_F) / np.maximum(high - middle, 1)
    return np.where((bin_F >= low) & (bin_F < middle), rising, np.where((bin_F >= middle) & (bin_F < high), falling, 0))


class Heard:
    """The sound of a clip, and the window of it that belongs to each frame."""

    def __init__(self, waveform_S: F32, frames: int, section: Sound, fps: int, length: int) -> None:
        """`length` of a window: samples or cepstra."""
        unit_hz = MFCC_HZ if section.feature == "mfcc" else section.rate
        pad = length * section.rate // unit_hz if section.feature == "mfcc" else length
        padded_S = np.pad(np.asarray(waveform_S, np.float32), pad)
        self._track_CL = mfcc(padded_S, section.rate) if section.feature == "mfcc" else padded_S[None]
        middles_T = (np.arange(frames) + 0.5) / fps * unit_hz
        self._starts_T = np.round(middles_T - length / 2).astype(np.int64) + length
        missing = int(self._starts_T[-1]) + length - self._track_CL.shape[1]
        if missing > 0:  # the sound ends before the frames
            self._track_CL = np.pad(self._track_CL, ((0, 0), (0, missing)), mode="edge")
        self._length = length

    def windows(self, first: int, last: int) -> F32:
        """Of frames first..last: [T, C, K]."""
        every_CLK = sliding_window_view(self._track_CL, self._length, axis=1)
        return np.ascontiguousarray(every_CLK[:, self._starts_T[first:last]].transpose(1, 0, 2))


def heard(waveform_S: F32, frames: int, section: ClipData) -> Heard:
    """What a generator hears of `waveform_S` with `frames` frames, as the data section says."""
    return Heard(waveform_S, frames, section.audio, section.fps, section.audio_shape[1])


def heard_by_syncnet(waveform_S: F32, frames: int, rate: int, fps: int, window_frames: int) -> Heard:
    """Cepstra over `window_frames` frames' time, whatever the generator hears."""
    sound = Sound(rate=rate, feature="mfcc", context_frames=0)
    return Heard(waveform_S, frames, sound, fps, round(MFCC_HZ * window_frames / fps))
