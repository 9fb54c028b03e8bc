"""`gankiln evaluate`: any two sets of images, or a checkpoint, against one another."""

import json

import numpy as np
import pytest
from PIL import Image

from jobs.data.modegrid import generate
from jobs.errors import SpecError
from jobs.spec.data import ModeGrid
from service.judging import evaluate_here

ASKED = ("pixels,random_conv", "fd,kid,recall")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Real images, other real ones, and one image over and over."""
    monkeypatch.setenv("GANKILN_HOME", str(tmp_path / "home"))
    images, _ = generate(ModeGrid(images=120, shapes=2, hues=2, positions=1))
    for name, chosen in (("real", images[:60]), ("other", images[60:]), ("collapsed", images[[0] * 60])):
        (tmp_path / name).mkdir()
        for index, image in enumerate(chosen):
            Image.fromarray(np.moveaxis(image, 0, -1)).save(tmp_path / name / f"{index:03d}.png")
    return tmp_path


def table(capsys, *arguments) -> dict[tuple[str, str, str], float]:
    evaluate_here(*arguments, as_json=True)
    rows = json.loads(capsys.readouterr().out)["rows"]
    return {(row["metric"], row["features"], row.get("label", "")): row["value"] for row in rows}


def test_a_collapsed_set_is_worse_than_a_real_one(folders, capsys):
    good = table(capsys, folders / "other", folders / "real", 32, 60, ASKED)
    bad = table(capsys, folders / "collapsed", folders / "real", 32, 60, ASKED)
    for space in ("pixels", "random_conv"):
        assert bad["fd", space, ""] > 3 * good["fd", space, ""]
        assert bad["recall", space, ""] < 0.2 < good["recall", space, ""]
    assert any(label for _, _, label in good)  # the sanity comparisons stand beside them


def test_the_table_is_printed_for_people(folders, capsys):
    evaluate_here(folders / "other", folders / "real", 32, 60, ASKED, as_json=False)
    printed = capsys.readouterr().out
    assert "random_conv" in printed and "kid" in printed


@pytest.mark.parametrize(
    ("resolution", "asked", "said"),
    [
        (None, ASKED, "--resolution"),
        (32, ("pixles", None), "--features"),
        (32, (None, "fid9"), "--metrics"),
        (33, ASKED, "power of two"),
    ],
)
def test_wrong_options_are_told(folders, resolution, asked, said):
    with pytest.raises(SpecError, match=said):
        evaluate_here(folders / "other", folders / "real", resolution, 60, asked, as_json=True)
