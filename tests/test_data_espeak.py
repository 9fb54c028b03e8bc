"""Voices by espeak-ng: in time, within the clip, and the same in whichever order they are asked for."""

import importlib.util

import numpy as np
import pytest

from jobs.data.espeak import speak_aloud
from jobs.data.speech import Voice
from jobs.data.talkingcartoon import draw_clip
from jobs.errors import DataError
from jobs.spec.clips import TalkingCartoon

WORDS = ("bin", "blue", "at", "f", "two", "now")
VOICE = Voice(120, 1.0)


def test_sentences_do_not_depend_on_what_was_said_before():
    pytest.importorskip("espeakng_loader")
    first = speak_aloud(WORDS, VOICE, seconds=2.0, rate=16000)
    speak_aloud(("set", "red"), VOICE, seconds=2.0, rate=16000)
    again = speak_aloud(WORDS, VOICE, seconds=2.0, rate=16000)
    np.testing.assert_array_equal(first.waveform_S, again.waveform_S)
    assert first.events == again.events


def test_sounds_are_in_order_within_the_clip_and_lips_move_with_them():
    pytest.importorskip("espeakng_loader")
    spoken = speak_aloud(WORDS, VOICE, seconds=2.0, rate=8000)
    assert len(spoken.waveform_S) == 16000
    moments = [event.seconds for event in spoken.events]
    assert moments == sorted(moments) and moments[0] >= 0 and moments[-1] < 2.0
    said = [event.phoneme for event in spoken.events]
    assert {"b", "ih", "n", "uw", "ae", "f"} <= set(said)
    quiet = np.abs(spoken.waveform_S) < 0.01
    assert quiet[:800].all() and quiet[-800:].all()
    loud = np.sqrt((spoken.waveform_S.reshape(-1, 40) ** 2).mean(1))
    assert np.corrcoef(loud, spoken.lips_L3[:, 0])[0, 1] > 0.3


def test_a_clip_can_be_drawn_with_it_and_a_sentence_too_long_is_refused():
    pytest.importorskip("espeakng_loader")
    section = TalkingCartoon(resolution=32, window_frames=4, offset_frames=5, speech="espeak")
    one, again = draw_clip(section, 0), draw_clip(section, 0)
    np.testing.assert_array_equal(one.waveform_S, again.waveform_S)
    assert one.truth.opening_T.max() > 2
    with pytest.raises(DataError, match="cannot be said in"):
        speak_aloud(WORDS * 4, VOICE, seconds=1.0, rate=8000)


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "espeakng_loader" else found(name))
    with pytest.raises(DataError) as caught:
        speak_aloud(WORDS, VOICE, seconds=2.0, rate=8000)
    assert "gankiln[speech]" in str(caught.value.hint)
