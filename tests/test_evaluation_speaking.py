"""Measures of speaking faces: each against a film of which the answer is known, or its definition written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.data.talkingcartoon import draw_clip
from jobs.evaluation import faces, lips, syncnet
from jobs.evaluation.cpbd import cpbd
from jobs.evaluation.lips import Box
from jobs.spec.clips import Sound, TalkingCartoon

SECTION = TalkingCartoon(resolution=64, clips=12, identities=6, held_out_clips=2, seconds=1.6, window_frames=4,
                         offset_frames=5, blinks_per_second=0.6, audio=Sound(rate=8000, feature="mfcc"))  # fmt: skip
MOUTH = Box.of(SECTION.mouth, 64, 64)


@pytest.fixture(scope="module")
def clips():
    return [draw_clip(SECTION, number) for number in range(14)]


# Lips


def test_openings_follow_the_truth(clips):
    for clip in clips[:4]:
        assert lips.correlation(lips.openings(clip.frames_TCHW, MOUTH), clip.truth.opening_T) > 0.97


def test_openings_do_not_depend_on_grey_or_colour_nor_on_brightness(clips):
    grey = clips[0].frames_TCHW
    expected = lips.openings(grey, MOUTH)
    np.testing.assert_allclose(lips.openings(grey.repeat(3, axis=1), MOUTH), expected, atol=1e-6)
    np.testing.assert_allclose(lips.openings((grey * 0.7).astype(np.uint8), MOUTH), expected, atol=0.02)


@given(st.integers(-5, 5))
def test_delay_is_found(shift):
    rng = np.random.RandomState(3)
    true = np.convolve(rng.normal(size=80), np.ones(5), "same")
    made = np.roll(true, shift) + 0.01 * rng.normal(size=80)
    assert lips.delay_frames(made, true, 6) == shift


def test_correlation_is_pearsons_and_0_for_a_still_mouth():
    rng = np.random.RandomState(0)
    one, other = rng.normal(size=(2, 50))
    assert lips.correlation(one, other) == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert lips.correlation(np.ones(50), other) == 0.0


def test_motion_and_swap_of_films_of_known_answer(clips):
    real = clips[0].frames_TCHW
    still = real[:1].repeat(len(real), axis=0)
    assert lips.motion(still, MOUTH) == 0.0 and lips.motion(real, MOUTH) > 1.0
    assert lips.swap_change(real, real, real, MOUTH) == 0.0
    # Another order of the same moments is what a perfect generator does with another sound.
    shuffled = real[np.random.RandomState(0).permutation(len(real))]
    assert lips.swap_change(real, shuffled, real, MOUTH) == pytest.approx(1.0, abs=0.35)


def test_landmarks_of_the_mouth_are_where_truth_has_them(clips):
    for clip in clips[:4]:
        found = lips.mouth_landmarks(clip.frames_TCHW, MOUTH)
        opened = clip.truth.opening_T > 2
        away = np.linalg.norm(found - clip.truth.landmarks_TK2[:, :4], axis=2)[opened]
        assert away.mean() < 0.8


def test_blinks_are_counted(clips):
    for clip in clips:
        closed = clip.truth.eyes_T < 0.45
        boxes = faces.eye_boxes(clip.truth.landmarks_TK2[0, 4:6], 64)
        true = int((np.diff(closed.astype(int)) == 1).sum() + closed[0])
        assert abs(lips.blinks(clip.frames_TCHW, boxes) - true) <= 1
    assert lips.blinks(clips[0].frames_TCHW[:1].repeat(20, axis=0), boxes) == 0


# Faces


def test_a_third_eye_is_seen(clips):
    clip = clips[0]
    at = int(clip.truth.eyes_T.argmax())
    eye = faces.eye_patch(clip.frames_TCHW[at], clip.truth.landmarks_TK2[at, 4], 4, 5)
    opened = clip.frames_TCHW[clip.truth.eyes_T > 0.9][:6]
    assert faces.eyes_seen(opened, eye) == pytest.approx(2.0, abs=0.35)
    tripled = opened.copy()
    tripled[:, 0, 52:61, 26:37] = eye
    assert faces.eyes_seen(tripled, eye) - faces.eyes_seen(opened, eye) == pytest.approx(1.0, abs=0.35)


def test_a_repeated_half_correlates_with_itself(clips):
    film = clips[0].frames_TCHW.copy()
    assert faces.halves_correlation(film) < 0.6
    film[:, :, 32:] = film[:, :, :32]
    assert faces.halves_correlation(film) == pytest.approx(1.0)


def test_half_errors_are_of_their_half(clips):
    film = clips[0].frames_TCHW
    changed = film.copy()
    changed[:, :, :32] = 255 - changed[:, :, :32]
    upper, lower = faces.half_errors(changed, film)
    assert lower == 0.0 and upper == pytest.approx(np.abs(changed.astype(float) - film)[:, :, :32].mean() / 255)


def test_a_face_is_nearer_to_itself_than_to_strangers(clips):
    stills = np.concatenate([clip.frames_TCHW[:1] for clip in clips[:6]])
    features = faces.embedded(stills)
    own = faces.identity_distance(clips[0].frames_TCHW[::8], features[0], features[1:])
    strange = faces.identity_distance(clips[1].frames_TCHW[::8], features[0], features[2:])
    assert own < 0.5 < strange


# Sharpness


def edge(width: int) -> np.ndarray:
    """A ramp from dark to bright over `width` steps, in every row."""
    column = np.clip((np.arange(64) - 30) / width, 0, 1)
    return np.repeat((40 + 160 * column)[None], 64, axis=0)


def test_cpbd_is_1_for_sharp_edges_and_0_for_wide_ones():
    assert cpbd(edge(1)) == 1.0 and cpbd(edge(2)) == 1.0
    assert cpbd(edge(8)) == 0.0
    assert cpbd(np.full((64, 64), 90.0)) is None


@pytest.mark.parametrize(("width", "noticed"), [(2, False), (3, True), (4, True)])
def test_cpbd_notices_a_blur_where_its_formula_does(width, noticed):
    """Contrast 160: 3 pixels can just be noticed, with probability 1 - 1/e = 0.632 > 0.63."""
    probability = 1 - np.exp(-((width / 3) ** 3.6))
    assert (probability > 0.63) == noticed
    assert cpbd(edge(width)) == (0.0 if noticed else 1.0)


def test_cpbd_falls_with_blur(clips):
    from scipy.ndimage import gaussian_filter

    frame = clips[0].frames_TCHW[0, 0].astype(float)
    sharp, blurred = (cpbd(gaussian_filter(frame, sigma).round()) for sigma in (0, 1))
    assert sharp > 0.8 and blurred < 0.3


# In time


def by_definition(seen: np.ndarray, heard: np.ndarray, most: int) -> tuple[float, float, int]:
    means = []
    for shift in range(-most, most + 1):
        pairs = [(seen[t], heard[t + shift]) for t in range(len(seen)) if 0 <= t + shift < len(heard)]
        means.append(np.mean([np.sqrt(((a - b) ** 2).sum()) for a, b in pairs]))
    return min(means), np.median(means) - min(means), int(np.argmin(means)) - most


@pytest.mark.parametrize("late", [-3, 0, 4])
def test_lse_equals_its_definition(late):
    rng = np.random.RandomState(1)
    heard = rng.normal(size=(60, 8))
    seen = np.roll(heard, -late, axis=0) + 0.3 * rng.normal(size=(60, 8))
    found = syncnet.score(seen, heard)
    assert found == pytest.approx(by_definition(seen, heard, 15))
    assert found.offset_frames == late


def test_a_syncnet_of_few_clips_tells_its_own_sound_from_another(clips, monkeypatch):
    monkeypatch.setattr(syncnet, "STEPS_A_CLIP", 6)
    hearing = syncnet.Hearing(8000, 25)
    seen, unseen = clips[:12], clips[12:]
    network = syncnet.train(seen, hearing, torch.device("cpu"))
    own = np.mean([syncnet.measure(network, clip, clip.frames_TCHW, hearing).distance for clip in unseen])
    other = np.mean([
        syncnet.measure(network, clip, unseen[1 - at].frames_TCHW, hearing).distance for at, clip in enumerate(unseen)
    ])  # fmt: skip
    assert own < other - 0.1


def test_a_syncnet_is_kept_and_read_again(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(syncnet, "STEPS_A_CLIP", 1)
    monkeypatch.setattr(syncnet, "STEPS", 1)
    hearing = syncnet.Hearing(8000, 25)
    one = syncnet.open_syncnet(clips[:2], hearing, "d", tmp_path, torch.device("cpu"))
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(syncnet, "train", None)
    again = syncnet.open_syncnet(clips[:2], hearing, "d", tmp_path, torch.device("cpu"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in one.state_dict().items())
    monkeypatch.undo()
    file.write_bytes(b"no tensors")
    monkeypatch.setattr(syncnet, "STEPS", 1)
    assert syncnet.open_syncnet(clips[:2], hearing, "d", tmp_path, torch.device("cpu")) is not None
