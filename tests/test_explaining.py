"""A whole StylEx run, and `gankiln explain` on what it left."""

import json

import pytest

from jobs.data import make_zip
from jobs.errors import DataError, Diverged, SpecError
from jobs.events import read_events
from jobs.explaining import explain
from jobs.report import Report
from jobs.report.model import Explanation
from jobs.spec.data import PlantedAttributes
from tests.tiny import TINY, Path, loaded, run_tiny

SPEC = Path("tests/specs/stylex.yaml")
QUICK = {"training.images": 32, "evaluation.sanity": False, "evaluation.untrained": False, "evaluation.samples": 16}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    base = tmp_path_factory.mktemp("stylex")
    run_tiny(loaded(SPEC, **QUICK), base / "out", base / "cache")
    return base


def test_a_run_says_how_its_classifier_and_its_reconstructions_are(ran):
    report = Report.load(ran / "out" / "report.json")
    rows = {(row.metric, row.features, row.label): row.value for row in report.metrics}
    for name in ("classifier_accuracy", "calibration_error", "classifier_agreement", "classifier_kl"):
        assert rows[name, "classifier", ""] is not None
    assert 0 < rows["l1", "pixels", ""] < 1 and rows["w_distance", "w", ""] > 0
    assert rows["fd", "pixels", "reconstructions"] > 0
    for name in ("cause_change", "other_change", "cause_precision", "cause_recall"):
        assert 0 <= rows[name, "attributes", ""] <= 1
    said = [event["message"] for event in read_events(ran / "out" / "events.jsonl") if event["event"] == "note"]
    assert any("calibration error" in sentence for sentence in said)
    judged = {verdict.detector for verdict in report.verdicts}
    assert {"encoder_collapse", "misread_reconstructions", "w_clouds_apart", "answer_ignored"} <= judged


def test_the_page_shows_images_coordinates_and_probabilities(ran):
    report = Report.load(ran / "out" / "report.json")
    told = report.explanation
    assert told is not None and told.explained == 8 and len(told.coordinates) >= told.shown_coordinates > 0
    assert [len(image.probabilities) for image in told.images] == [2 + 2 * told.shown_coordinates] * 2
    assert all(0 <= rate <= 1 for rate in (*told.flips_independent, *told.flips_subset))
    assert set(told.coordinates[0].attributes) == {"hue", "size", "stripes", "eye", "background", "rotation"}
    page = (ran / "out" / "report.html").read_text()
    assert "What changes the classifier" in page and page.count('class="flipped"') <= page.count("data:image")


def test_other_images_are_explained_from_a_checkpoint(ran, tmp_path):
    make_zip(PlantedAttributes(images=6, seed=5), tmp_path / "other.zip")
    page, told = explain(ran / "out", tmp_path / "other.zip", tmp_path / "page", cache_dir=tmp_path / "cache")
    assert told.explained == told.given == 6 and told.class_names == ("plain", "marked")
    assert page.read_text().count("<img") == len(told.images) * (2 + 2 * told.shown_coordinates)
    assert Explanation.model_validate(json.loads((tmp_path / "page" / "explanation.json").read_text())) == told
    assert told.coordinates[0].attributes == {}  # nobody knows the attributes of a stranger's images


def test_without_images_it_explains_its_own_data(ran, tmp_path):
    _, told = explain(ran / "out", None, tmp_path / "page", cache_dir=ran / "cache")
    assert told.explained == 8 and told.coordinates[0].attributes


def test_what_cannot_be_explained_is_said(ran, tmp_path):
    with pytest.raises(DataError, match="there is nothing at"):
        explain(ran / "out", tmp_path / "absent", tmp_path / "page", cache_dir=tmp_path)
    run_tiny(loaded(TINY, **QUICK), tmp_path / "gan", tmp_path / "cache")
    with pytest.raises(SpecError, match="explains no classifier"):
        explain(tmp_path / "gan", None, tmp_path / "page", cache_dir=tmp_path)


def test_a_classifier_below_the_stated_accuracy_stops_the_job(tmp_path):
    with pytest.raises(Diverged, match="below least_accuracy 100"):
        run_tiny(loaded(SPEC, **QUICK, **{"recipe.classifier.least_accuracy": 1.0}), tmp_path / "out", tmp_path)


def test_a_classifier_is_read_from_a_file(ran, tmp_path):
    stored = next((ran / "cache" / "classifiers").glob("*.safetensors"))
    changes = {"recipe.classifier": {"path": str(stored), "least_accuracy": 0}, "training.images": 16}
    run_tiny(loaded(SPEC, **{**QUICK, **changes}), tmp_path / "out", tmp_path / "cache")
    assert not (tmp_path / "cache" / "classifiers").exists()
    rows = [Report.load(out / "report.json").metrics for out in (ran / "out", tmp_path / "out")]
    accuracy = [next(row.value for row in table if row.metric == "classifier_accuracy") for table in rows]
    assert accuracy[0] == accuracy[1]
    wrong = {"recipe.classifier": {"path": str(stored), "architecture": "resnet18", "least_accuracy": 0}}
    with pytest.raises(DataError, match="does not hold a resnet18"):
        run_tiny(loaded(SPEC, **{**QUICK, **wrong}), tmp_path / "wrong", tmp_path / "cache")
