"""Clips from files: what is read is what was written, at the section's rates and in time; bad files are named."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.data import Roots, open_data
from jobs.data.decode import DecodeError
from jobs.data.make_clips import make_clips
from jobs.data.video import list_clips, read_boxes, read_clip
from jobs.data.wav import read_wav, wav_bytes
from jobs.errors import DataError, SpecError
from jobs.report.movies import difference, side_by_side, write_mp4
from jobs.spec.clips import ClipFolder, Sound, TalkingCartoon

SMALL = TalkingCartoon(resolution=32, clips=4, held_out_clips=2, identities=2, seconds=1.0, window_frames=4,
                       offset_frames=4, channels="rgb", audio=Sound(rate=16000))  # fmt: skip


def folder(**changes) -> ClipFolder:
    values = {
        "path": "clips", "resolution": 32, "channels": "rgb", "window_frames": 4, "offset_frames": 4,
        "held_out_clips": 2, "audio": Sound(rate=16000),
    }  # fmt: skip
    return ClipFolder(**values | changes)


def flashing(frames: int, fps: int, rate: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Black but for one white frame in the middle, at whose beginning a click is heard."""
    film = np.zeros((frames, 1, side, side), np.uint8)
    film[frames // 2] = 255
    wave = np.zeros(frames * rate // fps, np.float32)
    at = frames // 2 * rate // fps
    wave[at : at + rate // 200] = 0.9
    return film, wave


def is_in_time(frames_TCHW: np.ndarray, waveform_S: np.ndarray, fps: int, rate: int, tolerance_frames: float) -> bool:
    flash = int(frames_TCHW.mean((1, 2, 3)).argmax()) / fps
    click = int(np.abs(waveform_S).argmax()) / rate
    return abs(flash - click) <= tolerance_frames / fps


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("made")
    make_clips(SMALL, root)
    (root / "talkingcartoon").rename(root / "clips")
    return root


def test_what_make_writes_is_read_again(drawn, tmp_path):
    from jobs.data.talkingcartoon import draw_clip

    dataset = open_data(folder(), cache_dir=tmp_path, roots=Roots(drawn))
    assert len(dataset.clips) == 4 and len(dataset.held_out) == 2 and dataset.skipped == ()
    clip = draw_clip(SMALL, 0)
    np.testing.assert_array_equal(dataset.clips[0].frames_TCHW, clip.frames_TCHW)
    np.testing.assert_allclose(dataset.clips[0].waveform_S, clip.waveform_S, atol=1e-4)
    truth = json.loads((drawn / "clips" / clip.name.replace(" ", "-") / "truth.json").read_text())
    np.testing.assert_allclose(truth["opening_pixels"], clip.truth.opening_T, atol=1e-3)
    again = open_data(folder(), cache_dir=tmp_path, roots=Roots(drawn))
    assert again.digest == dataset.digest and len(list((tmp_path / "clips").iterdir())) == 6


@pytest.mark.parametrize("suffix", ["mp4", "avi", "webm"])
def test_videos_keep_their_picture_and_their_time(tmp_path, suffix):
    av = pytest.importorskip("av")
    (tmp_path / "clips").mkdir()
    film, wave = flashing(50, 25, 16000, side=64)
    path = tmp_path / "clips" / f"one.{suffix}"
    if suffix == "mp4":
        write_mp4(path, film, 25, wave, 16000)
    else:
        video, audio, rate = {"avi": ("mpeg4", "mp2", 16000), "webm": ("libvpx", "libopus", 48000)}[suffix]
        with av.open(str(path), "w") as container:
            pictures, sound = (
                container.add_stream(video, rate=25),
                container.add_stream(audio, rate=rate, layout="mono"),
            )
            pictures.height = pictures.width = 64
            pictures.pix_fmt = "yuv420p"
            for number, frame in enumerate(film):
                shown = av.VideoFrame.from_ndarray(np.repeat(frame[0][..., None], 3, 2), format="rgb24")
                shown.pts, shown.time_base = number, Fraction(1, 25)
                container.mux(pictures.encode(shown))
            container.mux(pictures.encode(None))
            heard = av.AudioFrame.from_ndarray((wave[None] * 32767).astype(np.int16), format="s16", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = 16000, 0, Fraction(1, 16000)
            for part in [*av.AudioResampler(format=sound.format.name, layout="mono", rate=rate).resample(heard), None]:
                container.mux(sound.encode(part))
    (clip,) = list_clips(folder(), Roots(tmp_path))
    frames, waveform = read_clip(clip, folder(channels="grey"), None)
    assert frames.shape[1:] == (1, 32, 32) and abs(len(frames) - 50) <= 1
    assert len(waveform) == len(frames) * 640
    assert is_in_time(frames, waveform, 25, 16000, 2.5)
    twice, _ = read_clip(clip, folder(channels="grey", fps=50), None)
    assert abs(len(twice) - 2 * len(frames)) <= 2


def test_frames_beside_a_wav_are_converted_in_time(tmp_path):
    place = tmp_path / "clips" / "speaker" / "one"
    place.mkdir(parents=True)
    film, wave = flashing(60, 30, 8000)
    for at, frame in enumerate(film):
        Image.fromarray(frame[0]).save(place / f"{at:03d}.png")
    (place / "voice.wav").write_bytes(wav_bytes(wave, 8000))
    section = folder(channels="grey", frame_rate=30.0)
    (clip,) = list_clips(section, Roots(tmp_path))
    assert clip.name == "speaker/one"
    frames, waveform = read_clip(clip, section, None)
    assert len(frames) == 50 and len(waveform) == 50 * 640
    assert is_in_time(frames, waveform, 25, 16000, 1.5)
    short, _ = read_clip(clip, folder(channels="grey", frame_rate=30.0, max_seconds=1.0), None)
    assert len(short) == 25


def test_boxes_cut_faces_out(drawn, tmp_path):
    shutil.copytree(drawn / "clips", tmp_path / "clips")
    name = sorted(path.name for path in (tmp_path / "clips").iterdir())[0]
    (tmp_path / "boxes.json").write_text(json.dumps({name: [0, 0, 16, 16]}))
    section = folder(boxes="boxes.json", box=(16, 16, 32, 32))
    boxes = read_boxes(section, Roots(tmp_path))
    clips = list_clips(section, Roots(tmp_path))
    whole, _ = read_clip(clips[0], folder(), None)
    cut, _ = read_clip(clips[0], section, boxes[name])
    from jobs.data.decode import fitted

    expected = fitted(Image.fromarray(whole[3][:, :16, :16].transpose(1, 2, 0)), 32, "crop")
    np.testing.assert_array_equal(cut[3], expected)
    with pytest.raises(DecodeError, match="its box ends at"):
        read_clip(clips[0], section, (0, 0, 99, 99))
    for wrong in ("[1]", '{"a": [1, 2]}', '{"a": [5, 0, 5, 9]}'):
        (tmp_path / "boxes.json").write_text(wrong)
        with pytest.raises(DataError, match=r"data\.boxes"):
            read_boxes(section, Roots(tmp_path))


def test_damaged_and_short_clips_are_skipped_and_named(drawn, tmp_path):
    pytest.importorskip("av")
    shutil.copytree(drawn / "clips", tmp_path / "clips")
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(200))
    silent = tmp_path / "clips" / "zz-short"
    silent.mkdir()
    Image.new("L", (8, 8)).save(silent / "0.png")
    Image.new("L", (8, 8)).save(silent / "1.png")
    (silent / "a.wav").write_bytes(wav_bytes(np.zeros(900, np.float32), 8000))
    dataset = open_data(folder(), cache_dir=tmp_path / "cache", roots=Roots(tmp_path))
    assert [skipped.name for skipped in dataset.skipped] == ["broken.mp4", "zz-short"]
    assert "has 2 frames, needs 13" in dataset.skipped[1].reason
    with pytest.raises(DataError, match="not enough to hold out 5"):
        open_data(folder(held_out_clips=5), cache_dir=tmp_path / "cache", roots=Roots(tmp_path))


def test_a_playlist_in_disguise_reads_no_other_file(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "clips").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "clips" / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{(tmp_path / 'secret.txt').as_uri()}\n")
    (clip,) = list_clips(folder(), Roots(tmp_path))
    with pytest.raises(DecodeError):
        read_clip(clip, folder(), None)


def test_nothing_outside_the_roots_is_read(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.mp4").write_bytes(b"x")
    inside = tmp_path / "inside"
    (inside / "clips").mkdir(parents=True)
    (inside / "clips" / "link.mp4").symlink_to(tmp_path / "outside" / "a.mp4")
    with pytest.raises(SpecError, match="leads outside"):
        list_clips(folder(), Roots(inside, (inside,)))
    with pytest.raises(DataError, match="holds no clips"):
        (inside / "clips" / "link.mp4").unlink()
        list_clips(folder(), Roots(inside))


def test_without_pyav_videos_are_refused_with_what_to_install(tmp_path, monkeypatch):
    import importlib.util

    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"x")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "av" else found(name))
    (clip,) = list_clips(folder(), Roots(tmp_path))
    with pytest.raises(DataError) as caught:
        read_clip(clip, folder(), None)
    assert "gankiln[video]" in str(caught.value.hint)
    with pytest.raises(DataError, match="PyAV"):
        write_mp4(tmp_path / "b.mp4", np.zeros((2, 1, 8, 8), np.uint8), 25, np.zeros(640, np.float32), 8000)


# Sound files


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_pcm_of_every_width_is_read(tmp_path, width):
    import wave

    values = np.array([0.0, 0.5, -0.5, 0.25] * 100)
    scaled = (values * 2 ** (8 * width - 1)).astype(np.int64)
    content = b"".join(
        int(v + 128).to_bytes(1, "little") if width == 1 else int(v).to_bytes(width, "little", signed=True)
        for v in scaled
        for _ in range(2)
    )
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(width)
        out.setframerate(8000)
        out.writeframes(content)
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav", 8000, 10.0), values, atol=1e-6)
    assert len(read_wav(tmp_path / "a.wav", 16000, 10.0)) == 800
    assert len(read_wav(tmp_path / "a.wav", 8000, 0.01)) == 80


def test_what_is_no_wav_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    for name in ("a.wav", "absent.wav"):
        with pytest.raises(DecodeError, match="not a PCM wav"):
            read_wav(tmp_path / name, 8000, 1.0)


# Films


def test_films_side_by_side_and_their_difference():
    one, other = np.full((2, 1, 4, 4), 100, np.uint8), np.full((2, 1, 4, 4), 140, np.uint8)
    assert side_by_side(one, other, one).shape == (2, 1, 4, 16)
    assert np.all(difference(one, one) == 128) and np.all(difference(one, other) == 148)


def test_a_film_has_its_frames_its_rate_and_its_sound(tmp_path):
    av = pytest.importorskip("av")
    film, wave = flashing(25, 25, 16000)
    write_mp4(tmp_path / "a.mp4", film, 25, wave, 16000)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert container.streams.audio[0].rate == 16000 and container.streams.video[0].average_rate == 25
    assert len(frames) == 25 and frames[0].shape == (160, 160)
    assert frames[12].mean() > 240
    assert frames[11].mean() < 10
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_same_film_is_written_as_the_same_bytes(tmp_path):
    pytest.importorskip("av")
    source = np.random.RandomState(0)
    film = source.randint(100, 132, (50, 1, 16, 16), dtype=np.uint8)
    written = set()
    for _ in range(10):
        for size in source.randint(1_000, 200_000, 20):
            source.randint(0, 255, size, dtype=np.uint8)  # what freed memory holds differs from film to film
        write_mp4(tmp_path / "a.mp4", film, 25, np.zeros(16000, np.float32), 8000)
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1
