"""Drawn speaking faces: what is said of a clip is what it shows, and the same section is the same bytes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.data import talkingcartoon
from jobs.data.clips import Conditions, open_cartoon
from jobs.data.dataset import Shown
from jobs.data.sound import Heard, heard_by_syncnet, mel_filters, mfcc
from jobs.data.speech import PHONEMES, SENTENCES, Event, lips_of, sentence
from jobs.data.stream import batches
from jobs.data.talkingcartoon import draw_clip
from jobs.spec.clips import Sound, TalkingCartoon

SMALL = TalkingCartoon(resolution=32, clips=6, held_out_clips=2, identities=3, seconds=1.0, window_frames=4,
                       offset_frames=5, audio=Sound(rate=8000, feature="mfcc", context_frames=1))  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_cartoon(SMALL, cache_dir=tmp_path_factory.mktemp("cache"))


def mouth(frame_CHW: np.ndarray, truth: talkingcartoon.Truth, at: int) -> float:
    """Height of the opening, measured by hand: the dark area around the middle of the mouth, over its width."""
    row, side = round(float(truth.landmarks_TK2[0, 2:4, 1].mean())), frame_CHW.shape[-1]
    near = frame_CHW[0, row - side // 8 : row + side // 8, side // 2 - 2 : side // 2 + 2].astype(float)
    return float((near.max() - near).sum() / (near.max() - 14) / 4)


def test_pictures_show_the_mouth_that_truth_tells():
    section = SMALL.model_copy(update={"seconds": 2.0})
    for number in range(4):
        clip = draw_clip(section, number)
        seen = [mouth(frame, clip.truth, at) for at, frame in enumerate(clip.frames_TCHW)]
        assert np.corrcoef(seen, clip.truth.opening_T)[0, 1] > 0.98
        corners = clip.truth.landmarks_TK2[:, 1, 0] - clip.truth.landmarks_TK2[:, 0, 0]
        assert np.all(corners > 2) and np.all(clip.truth.opening_T >= 0)


def test_a_blink_hides_the_white_of_the_eye_and_nothing_else():
    section = SMALL.model_copy(update={"blinks_per_second": 2.0, "seconds": 3.0, "resolution": 64})
    clip = draw_clip(section, 0)
    closed, opened = int(clip.truth.eyes_T.argmin()), int(clip.truth.eyes_T.argmax())
    assert clip.truth.eyes_T[closed] < 0.3
    columns, rows = clip.truth.landmarks_TK2[closed, 4].round().astype(int)
    area = np.s_[0, rows - 3 : rows + 4, columns - 5 : columns + 6]
    assert clip.frames_TCHW[closed][area].max() < clip.frames_TCHW[opened][area].max()
    np.testing.assert_array_equal(clip.frames_TCHW[closed][0, :10], clip.frames_TCHW[opened][0, :10])


def test_without_blinks_eyes_stay_open():
    assert np.all(draw_clip(SMALL.model_copy(update={"blinks_per_second": 0.0}), 1).truth.eyes_T == 1)


def test_the_same_section_draws_the_same_clips_and_another_seed_others():
    one, again, other = (draw_clip(SMALL.model_copy(update={"seed": seed}), 2) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.frames_TCHW, again.frames_TCHW)
    np.testing.assert_array_equal(one.waveform_S, again.waveform_S)
    assert not np.array_equal(one.frames_TCHW, other.frames_TCHW)


def test_held_out_clips_have_faces_and_sentences_of_their_own(dataset):
    faces = [{clip.truth.identity for clip in clips} for clips in (dataset.clips, dataset.held_out)]
    assert not faces[0] & faces[1]
    names = [clip.name.split(" ", 1)[1] for clip in (*dataset.clips, *dataset.held_out)]
    assert len(set(names)) == len(names)


def test_every_sentence_of_the_grammar_is_another_one():
    assert len({sentence(number) for number in range(0, SENTENCES, 13)}) == len(range(0, SENTENCES, 13))


@given(st.sampled_from(sorted(PHONEMES)))
def test_lips_reach_what_a_long_sound_asks_for(name):
    lips_L3 = lips_of([Event(0.0, name)], 1.0)
    wanted = PHONEMES[name]
    np.testing.assert_allclose(lips_L3[100], [wanted.opening, wanted.width, wanted.rounding], atol=1e-6)


def test_loud_is_where_the_mouth_is_open():
    """Vowels are louder than closures, as in speech: else nothing could be learnt."""
    clip = draw_clip(SMALL.model_copy(update={"seconds": 2.0}), 0)
    rms = np.sqrt((clip.waveform_S.reshape(50, -1) ** 2).mean(1))
    assert np.corrcoef(rms, clip.truth.opening_T)[0, 1] > 0.3
    assert np.abs(clip.waveform_S).max() <= 0.71


# Sound


def mfcc_by_hand(waveform: np.ndarray, rate: int, number: int) -> np.ndarray:
    """One vector of cepstra, every sum written out as its definition says."""
    size, points = round(0.025 * rate), 1 << (round(0.025 * rate) - 1).bit_length()
    scaled = waveform.astype(float) * 32768
    emphasised = np.array([scaled[i] - 0.97 * (scaled[i - 1] if i else 0.0) for i in range(len(scaled))])
    start = int(np.round((number + 0.5) * rate / 100 - size / 2))
    window = np.array([emphasised[i] if 0 <= i < len(emphasised) else 0.0 for i in range(start, start + size)])
    k = np.arange(points // 2 + 1)
    power = np.abs((window[:, None] * np.exp(-2j * np.pi * np.outer(np.arange(size), k) / points)).sum(0)) ** 2 / points
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), 28)
    corner = np.floor((points + 1) * 700 * (10 ** (mel / 2595) - 1) / rate)
    energy = []
    for band in range(26):
        left, middle, right = corner[band : band + 3]
        weight = [(f - left) / (middle - left) if left <= f < middle else (right - f) / (right - middle)
                  if middle <= f < right else 0.0 for f in k]  # fmt: skip
        energy.append(max(float(np.dot(weight, power)), 1.0))
    log = np.log(energy)
    cepstrum = [np.sqrt((1 if c == 0 else 2) / 26) * sum(log[b] * np.cos(np.pi * c * (b + 0.5) / 26) for b in range(26))
                * (1 + 11 * np.sin(np.pi * c / 22)) for c in range(13)]  # fmt: skip
    return np.array([np.log(max(power.sum(), 1.0)), *cepstrum[1:]])


@pytest.mark.parametrize("rate", [8000, 16000])
def test_cepstra_equal_their_definition(rate):
    rng = np.random.RandomState(0)
    waveform = (0.3 * np.sin(np.arange(rate // 4) * 0.2) + 0.05 * rng.standard_normal(rate // 4)).astype(np.float32)
    found = mfcc(waveform, rate)
    assert found.shape == (13, 25)
    for number in (0, 7, 24):
        np.testing.assert_allclose(found[:, number], mfcc_by_hand(waveform, rate, number), rtol=1e-4, atol=1e-3)


def test_silence_is_finite_and_filters_cover_the_band():
    assert np.isfinite(mfcc(np.zeros(8000, np.float32), 8000)).all()
    assert np.all(mel_filters(16000, 512).sum(1) > 0)


@settings(deadline=None)
@given(st.integers(0, 3), st.sampled_from([24, 25, 30]), st.sampled_from([8000, 16000, 22050]))
def test_the_window_of_a_frame_lies_around_its_middle(context, fps, rate):
    """A click is heard in the windows whose time holds it, and nowhere else; beyond the ends there is silence."""
    frames = 2 * fps
    length = round(rate * (1 + 2 * context) / fps)
    wave = np.zeros(2 * rate, np.float32)
    click = rate
    wave[click] = 1.0
    sound = Heard(wave, frames, Sound(rate=rate, context_frames=context), fps, length)
    windows = sound.windows(0, frames)
    assert windows.shape == (frames, 1, length)
    for at in range(frames):
        middle = (at + 0.5) / fps * rate
        heard = windows[at].any()
        if abs(click - middle) < length / 2 - 1:
            assert heard
        if abs(click - middle) > length / 2 + 1:
            assert not heard
    assert np.array_equal(sound.windows(3, 5), windows[3:5])


def test_syncnet_hears_twenty_cepstra_with_five_frames():
    sound = heard_by_syncnet(np.zeros(16000, np.float32), 25, 16000, 25, 5)
    assert sound.windows(0, 25).shape == (25, 13, 20)


# The data set


def test_windows_are_where_the_stream_says_and_never_hold_the_still(dataset):
    stream = batches(dataset, batch=8, seed=3, images=0, mirror=False)
    batch = next(stream)
    stream.close()
    assert batch.video_NTCHW.shape == (8, 4, 1, 32, 32) and batch.audio_NTCK.shape == (8, 4, 13, 12)
    every = np.concatenate([clip.frames_TCHW for clip in dataset.clips])
    for video, still in zip(batch.video_NTCHW.numpy(), batch.still_NCHW.numpy(), strict=True):
        assert any(np.array_equal(video[0], frame) for frame in every)
        assert any(np.array_equal(still, clip.frames_TCHW[0]) for clip in dataset.clips)


@pytest.mark.parametrize("reference", ["first", "last", "random"])
def test_stills_lie_outside_their_window(dataset, reference):
    frames = 25
    section = SMALL.model_copy(update={"reference": reference})
    marked = tuple(
        replace(clip, frames_TCHW=np.arange(frames, dtype=np.uint8)[:, None, None, None].repeat(32, 2).repeat(32, 3))
        for clip in dataset.clips
    )
    changed = replace(dataset, section=section, clips=marked)
    for seed in range(20):
        batch = changed.gather(Shown(seed, np.arange(6), np.arange(6), np.zeros(6, np.bool_)))
        shown = batch.video_NTCHW[:, :, 0, 0, 0].numpy().astype(int)
        assert np.all(np.diff(shown, axis=1) == 1)
        still = batch.still_NCHW[:, 0, 0, 0].numpy()
        assert not np.any(shown == still[:, None])
        assert reference == "random" or np.all(still == (0 if reference == "first" else frames - 1))


def test_misaligned_sound_is_of_another_time(dataset):
    clip = dataset.clips[0]
    windows = dataset.heard(clip).windows(0, 25)
    found = {
        tuple(
            int(np.argmin([np.abs(one - w).sum() for w in windows]))
            for one in (batch.audio_NTCK[0, 0].numpy(), batch.misaligned_NTCK[0, 0].numpy())
        )
        for seed in range(12)
        for batch in [dataset.gather(Shown(seed, np.array([0]), np.array([0]), np.zeros(1, np.bool_)))]
    }
    assert all(abs(one - other) >= SMALL.offset_frames for one, other in found)
    assert len(found) > 3


def test_whole_clips_and_swapped_sound(dataset):
    first, second = dataset.held_out
    given = dataset.whole(first)
    assert isinstance(given, Conditions) and given.audio_NTCK.shape == (1, 25, 13, 12)
    swapped = dataset.whole(first, sound_of=second)
    assert np.array_equal(swapped.still_NCHW, given.still_NCHW)
    assert not np.array_equal(swapped.audio_NTCK, given.audio_NTCK)


def test_a_damaged_entry_of_the_cache_is_made_again(tmp_path):
    one = open_cartoon(SMALL, cache_dir=tmp_path)
    kept = [np.array(clip.frames_TCHW) for clip in (*one.clips, *one.held_out)]  # mapped files are about to be cut
    entries = sorted((tmp_path / "clips").iterdir())
    (entries[0] / "frames.npy").write_bytes(b"half")
    (entries[1] / "clip.json").write_text(json.dumps({"name": 3}))
    (entries[2] / "truth.npz").unlink()
    again = open_cartoon(SMALL, cache_dir=tmp_path)
    for frames, after in zip(kept, (*again.clips, *again.held_out), strict=True):
        np.testing.assert_array_equal(frames, after.frames_TCHW)
        assert after.truth is not None
    assert [clip.name for clip in one.clips] == [clip.name for clip in again.clips]
    assert one.digest == again.digest


def test_clips_too_short_for_their_windows_are_refused():
    with pytest.raises(ValueError, match=r"window_frames \+ 2 · offset_frames"):
        TalkingCartoon(resolution=32, seconds=1.0, window_frames=10, offset_frames=10)
