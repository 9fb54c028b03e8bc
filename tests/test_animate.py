"""A still image and a voice become a film; what is none of them is refused in words."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.animate import animate
from jobs.data.wav import wav_bytes
from jobs.errors import DataError
from tests.tiny import TINY, loaded, run_tiny

FACE = Path("tests/specs/talking_face.yaml")
QUICK = {
    "training.images": 16, "evaluation.samples": 8, "evaluation.sanity": False, "evaluation.untrained": False,
    "evaluation.metrics": ["fd"], "evaluation.features": ["pixels"], "diagnosis.enabled": False,
    "diagnosis.wiring": False,
}  # fmt: skip

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("face")
    run_tiny(loaded(FACE, **QUICK), root / "out", root / "cache")
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (50, 40, 3), dtype=np.uint8)).save(root / "still.png")
    wave = np.sin(np.arange(2 * 22050) * 0.05).astype(np.float32)
    (root / "voice.wav").write_bytes(wav_bytes(wave, 22050))
    return root


def test_the_command_writes_a_film_as_long_as_the_voice(trained):
    command = [sys.executable, "-m", "service", "animate", *(str(trained / name) for name in ("out", "still.png",
               "voice.wav")), "--out", str(trained / "film.mp4")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "50 frames" in done.stdout
    with av.open(str(trained / "film.mp4")) as container:
        assert len(list(container.decode(video=0))) == 50
        assert container.streams.audio[0].rate == 8000
    films = sorted((trained / "out" / "films").iterdir())
    assert [path.name for path in films] == ["00.mp4", "00.png", "01.mp4", "01.png"]


def test_the_same_seed_makes_the_same_film(trained):
    frames = []
    for name in ("a.mp4", "b.mp4"):
        assert animate(trained / "out", trained / "still.png", trained / "voice.wav", trained / name, seed=3) == 50
        with av.open(str(trained / name)) as container:
            frames.append(np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]))
    np.testing.assert_array_equal(*frames)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"still": "voice.wav"}, "not a picture"),
        ({"voice": "still.png"}, "not a PCM wav"),
        ({"still": "absent.png"}, "cannot be read"),
        ({"out": "film.gif"}, "does not end in .mp4"),
    ],
)
def test_what_cannot_be_used_is_named(trained, change, said):
    given = {"still": "still.png", "voice": "voice.wav", "out": "x.mp4"} | change
    with pytest.raises(DataError, match=said):
        animate(trained / "out", trained / given["still"], trained / given["voice"], trained / given["out"])


def test_only_a_talking_face_can_be_animated(trained):
    still = {**QUICK, "training.batch": 16}
    run_tiny(loaded(TINY, **still), trained / "other", trained / "cache")
    with pytest.raises(DataError, match="a stylegan2, and no talking_face"):
        animate(trained / "other", trained / "still.png", trained / "voice.wav", trained / "x.mp4")
