"""A profile looks on: a trace that viewers read, a table in the report, and the same weights, bit for bit."""

import gzip
import json

import pytest

from jobs.errors import SpecError
from jobs.events import read_events
from jobs.report import Report
from service.local import run_here
from tests.test_run import QUICK, final_state, same
from tests.tiny import EVERY, loaded, run_tiny

SHORT = {**QUICK, "training.images": 112, "diagnosis.enabled": False, "evaluation.features": ["pixels"]}
GROWS = {"training.images": 176}
"""A sketch must be fully grown at the end."""


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_a_profiled_run_ends_with_the_same_weights_and_a_trace(path, tmp_path):
    changes = {**SHORT, **(GROWS if path.stem == "sketch" else {})}
    for name, iterations in (("plain", 0), ("profiled", 2)):
        run_tiny(loaded(path, **changes), tmp_path / name, tmp_path / "cache", profile_iterations=iterations)
    assert same(final_state(tmp_path / "plain"), final_state(tmp_path / "profiled"))
    assert not (tmp_path / "plain" / "profile.json.gz").exists()

    trace = json.loads(gzip.decompress((tmp_path / "profiled" / "profile.json.gz").read_bytes()))
    names = [event.get("name") for event in trace["traceEvents"]]
    assert names.count("step") == 2 and "waiting for data" in names and "aten::convolution" in names

    report = Report.load(tmp_path / "profiled" / "report.json")
    assert report.profile is not None and report.profile.iterations == 2 and report.profile.images == 96
    assert 0 <= report.profile.waiting_ratio < 1 and report.profile.seconds > 0
    shares = [operator.share for operator in report.profile.operators]
    assert shares == sorted(shares, reverse=True) and 0.2 < sum(shares) <= 1.001
    page = (tmp_path / "profiled" / "report.html").read_text()
    assert 'href="profile.json.gz"' in page and report.profile.operators[0].name.split("::")[-1][:6] in page


def test_a_run_that_ends_before_leaves_what_there_is(tmp_path):
    short = {**SHORT, "training.images": 16 * 6}
    run_tiny(loaded(**short), tmp_path / "run", tmp_path / "cache", profile_iterations=50)
    (said,) = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event["event"] == "profile"]
    assert said["iterations"] == 2


def test_a_study_is_not_profiled(tmp_path):
    spec = tmp_path / "study.yaml"
    text = EVERY[0].read_text() + "study: {question: why, ablate: {recipe.data.seed: [1]}, primary: {metric: fd}}\n"
    spec.write_text(text)
    with pytest.raises(SpecError, match="--profile"):
        run_here(spec, tmp_path / "out", roots=(None, None), cache_dir=None, weights_dir=None, profile=2)
