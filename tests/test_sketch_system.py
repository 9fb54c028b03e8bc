"""What only sketches measure, show and are watched for, through a whole tiny run."""

import json
from pathlib import Path

import pytest
from PIL import Image

from jobs.diagnosis.table import OF_SKETCHING
from jobs.evaluation import classifier
from jobs.events import read_events
from jobs.spec.resolve import resolve
from jobs.systems.sketch import REAL, SHUFFLED
from tests.tiny import loaded, run_tiny

SPEC = Path("tests/specs/sketch.yaml")
SMALL = {"evaluation": {"samples": 16, "features": ["pixels"], "metrics": ["fd"], "sanity": False, "untrained": False}}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sketch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "LEAST_IMAGES_SHOWN", 512)
        run_tiny(loaded(SPEC, **SMALL), folder / "run", folder / "cache")
    return folder / "run"


@pytest.fixture(scope="module")
def report(out):
    return json.loads((out / "report.json").read_text())


def test_conditional_scores_stand_beside_those_of_other_drawings_and_of_real_parts(report):
    rows = {(row["metric"], row["label"]): row["value"] for row in report["metrics"] if row["features"] == "geometry"}
    assert rows["eye_in_head", REAL] == 1.0
    assert rows["eye_in_head_gap", ""] == pytest.approx(rows["eye_in_head", ""] - rows["eye_in_head", SHUFFLED])
    assert rows["ink_ratio", REAL] == 1.0
    assert {"attachment_distance", "strokes", "latent_diversity"} <= {metric for metric, _ in rows}
    assert report["headline"] == ["eye_in_head", "geometry"]


def test_the_distance_is_measured_in_features_of_a_classifier_of_parts(report):
    (row,) = [row for row in report["metrics"] if row["features"] == "part_classifier"]
    assert row["metric"] == "fd" and row["value"] > 0 and "a classifier of 8 parts" in row["note"]


def test_decaying_quantities_are_in_the_report_at_every_growth(report):
    effective = report["effective"]
    assert [effective[f"growth.{side}.begins_images"] for side in (4, 8, 16)] == [0, 48, 112]
    assert effective["growth.4.instance_noise"] > effective["growth.16.instance_noise"] > 0  # a global clock
    assert effective["growth.16.label_noise"] == pytest.approx(effective["growth.4.label_noise"])  # begins anew


def test_every_detector_that_applies_has_looked(out):
    looked = {name for event in read_events(out / "events.jsonl") if event["event"] == "statistics"
              for name in event["statistics"]}  # fmt: skip
    too_few_steps = {"growth_overpowered", "growth_starved", "growth_unstable"}
    assert {detector.name for detector in OF_SKETCHING} - too_few_steps <= looked
    notes = [event for event in read_events(out / "events.jsonl") if event["event"] == "note"]
    assert not [note for note in notes if "could not look" in note["message"]]


def test_growth_and_continuations_are_shown(out, report):
    shown = {picture["path"]: picture["caption"] for picture in report["pictures"]}
    assert shown.keys() == {"growth.png", "continuations.png"} and "16x16 at 256 images" in shown["growth.png"]
    for path in shown:
        with Image.open(out / path) as picture:
            assert picture.width > 64


def test_pictures_are_judged_once_the_last_resolution_has_faded_in():
    job = loaded(SPEC).job
    assert job.diagnosis.grace_images == 160
    assert resolve(job)[0] == job


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training.precision": "bf16"}, "a sketch computes in fp32"),
        ({"training.images": 128}, "16x16 has faded in only after 160 images"),
        ({"recipe.generator.architecture": "skip"}, "write growth: {kind: none}"),
        ({"recipe.growth.start_resolution": 32}, "is above the 16 of the data"),
        ({"recipe.label_noise.amount.over": None}, "decay: linear needs `over`"),
        ({"recipe.data.part": "ears"}, "is none of initial, eye"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, message):
    from jobs.errors import SpecError

    with pytest.raises(SpecError, match=message):
        loaded(SPEC, **change)


def test_what_was_regretted_is_said():
    from jobs.spec.resolve import warnings

    critic = {"adversarial": "wgan", "r1": {"gamma": 0}}
    said = " ".join(warnings(loaded(SPEC, **{"recipe.loss": critic, "recipe.generator.norm_epsilon": 0}).job))
    assert "nothing bounds the critic" in said and "0 / 0" in said
    gone = {"start": 1.0, "decay": "harmonic", "over": 16, "clock": "global"}
    noise = {"recipe.instance_noise": {"applies_to": "real", "deviation": gone}, "recipe.growth.stabilise": 160}
    (sentence,) = [line for line in warnings(loaded(SPEC, **noise, **{"training.images": 512}).job) if "noise" in line]
    assert "is left when 8x8 begins" in sentence and "clock: growth" in sentence
