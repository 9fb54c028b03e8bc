"""Layers that leave open how they are computed: the faster way is taken, kept, and changes nothing but rounding."""

import json

import pytest
import torch

from jobs import recipes, tuning
from jobs.errors import Interrupted
from jobs.events import read_events
from jobs.networks.injection import Modulation
from jobs.training import state
from jobs.training.recipe import Known
from tests.tiny import loaded, run_tiny

AUTO = {"recipe.generator.injection": {"kind": "adain_sg2", "fused": "auto"}}
QUICK = {
    "training.images": 96, "training.checkpoint_images": 48, "evaluation.samples": 16, "evaluation.sanity": False,
    "evaluation.untrained": False, "evaluation.metrics": ["fd"], "evaluation.features": ["pixels"],
    "diagnosis.enabled": False, "diagnosis.wiring": False,
}  # fmt: skip


@pytest.fixture
def recipe():
    return recipes.build(loaded(**AUTO).job, Known(), "fp32", torch.device("cpu"))


@pytest.fixture
def times(monkeypatch):
    """How long each way takes, in place of a clock: weights for each image win where maps are small."""
    asked = []

    def once(layer: Modulation, call: tuning.Call) -> float:
        asked.append(call.key())
        side = call.x.shape[-1]
        return side / 1000 if layer.fused else 0.008

    monkeypatch.setattr(tuning, "_once", once)
    return asked


def test_each_layer_takes_the_way_that_is_faster_there(recipe, times, tmp_path):
    said = []
    tuned = tuning.measure(recipe, 8, tmp_path, said.append)
    sides = [call.x.shape[-1] for call in tuning._calls(recipe, 8)]
    assert sides == [4, 4, 8, 8, 16, 16, 32]
    assert list(tuned.values()) == [True, True, False, False, False, False, False]
    assert said == [
        "injection.fused: auto: 2 of 7 styled layers are faster with weights for each image; 48.0 ms forward and back "
        "instead of 56.0 ms, 8 images at a time"
    ]
    tuning.apply(recipe, tuned)
    fused = [m.fused for m in recipe.G.modules() if isinstance(m, Modulation)]
    assert fused.count(True) == 2


def test_what_was_measured_is_not_measured_again(recipe, times, tmp_path):
    first = tuning.measure(recipe, 8, tmp_path, print)
    assert times
    times.clear()
    assert tuning.measure(recipe, 8, tmp_path, print) == first
    assert not times
    tuning.measure(recipe, 4, tmp_path, print)
    assert times, "another number of images at a time is another call"


def test_a_damaged_cache_is_measured_anew(recipe, times, tmp_path):
    (tmp_path / tuning.CACHE).write_text('{"x": "y"}')
    assert tuning.measure(recipe, 8, tmp_path, print)
    assert all(len(pair) == 2 for pair in json.loads((tmp_path / tuning.CACHE).read_text()).values())


def test_real_times_are_positive_and_leave_the_layer_as_it_was(recipe):
    layer = next(m for m in recipe.G.modules() if isinstance(m, Modulation))
    shared, each = tuning._seconds(layer, tuning._calls(recipe, 8)[0])
    assert shared > 0 and each > 0 and layer.fused is False


def test_nothing_is_measured_where_nothing_is_open(times, tmp_path):
    closed = recipes.build(loaded().job, Known(), "fp32", torch.device("cpu"))
    assert tuning.measure(closed, 8, tmp_path, print) == {} and not list(tmp_path.iterdir())


def test_another_process_computes_as_the_first_does_and_measures_nothing(tmp_path, times):
    job = loaded(**QUICK, **AUTO, **{"training.devices": 2})
    steps = iter(range(3))
    with pytest.raises(Interrupted):
        run_tiny(job, tmp_path / "out", tmp_path / "cache", should_stop=lambda: next(steps, None) is None)
    run_tiny(job, tmp_path / "out", tmp_path / "elsewhere")
    assert (tmp_path / "cache" / tuning.CACHE).exists() and not (tmp_path / "elsewhere" / tuning.CACHE).exists()


def test_a_run_keeps_its_choice_and_trains_what_the_plain_one_trains(tmp_path, times):
    run_tiny(loaded(**QUICK), tmp_path / "plain", tmp_path / "cache")
    run_tiny(loaded(**QUICK, **AUTO), tmp_path / "auto", tmp_path / "cache")
    steps = iter(range(3))
    with pytest.raises(Interrupted):
        run_tiny(loaded(**QUICK, **AUTO), tmp_path / "broken", tmp_path / "cache",
                 should_stop=lambda: next(steps, None) is None)  # fmt: skip
    times.clear()
    run_tiny(loaded(**QUICK, **AUTO), tmp_path / "broken", tmp_path / "elsewhere")  # another cache: nothing is known
    assert not times
    notes = [event["message"] for event in read_events(tmp_path / "auto" / "events.jsonl") if event["event"] == "note"]
    assert any("2 of 7 styled layers" in note for note in notes)
    plain, auto, broken = (
        state.load_verified(state.complete(tmp_path / name / "checkpoints")[-1].path)
        for name in ("plain", "auto", "broken")
    )
    assert sum(auto["progress"]["tuned"].values()) == 2
    for name, tensor in auto["parts"]["G"].items():
        assert torch.equal(tensor, broken["parts"]["G"][name]), name
        apart = (tensor - plain["parts"]["G"][name]).norm() / tensor.norm().clamp(min=1e-6)
        assert apart < 1e-2 or tensor.dim() < 2, name  # Adam's first steps have a gradient's sign, however small it is
