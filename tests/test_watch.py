"""The diagnosis of a run: it changes nothing, says what it sees, stops or goes back where the spec says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from jobs import recipes
from jobs.data import Roots
from jobs.diagnosis.wiring import Miswired
from jobs.errors import Diverged, Interrupted
from jobs.events import read_events
from jobs.recipes.stylegan2 import StyleGAN2
from jobs.report import Report
from jobs.run import Build, Surroundings, run
from jobs.spec import load
from jobs.training import state
from jobs.training.recipe import Known
from jobs.watch import NOT_EXAMINED, Stopped

SPEC = """
name: watched
seed: 1
recipe:
  kind: stylegan2
  data: {kind: folder, path: pictures, resolution: 16}
  preset: auto
  generator: {channels_base: 64, channels_max: 8, latent: 8, style: 8}
  r1: {gamma: 1.0, interval: 2}
  path_length: {interval: 3}
training: {images: 96, batch: 8, checkpoint_images: 32, sample_images: 16, precision: fp32, device: cpu, grid: [2, 2]}
evaluation: {samples: 16, features: [pixels], metrics: [recall], sanity: false, untrained: false, intervals: false}
"""
Outcome = tuple[Path, list[dict[str, Any]]]


def draw(folder: Path) -> None:
    """48 coloured squares on grey."""
    folder.mkdir()
    rng = np.random.RandomState(0)
    for number in range(48):
        pixels = np.full((16, 16, 3), 128, np.uint8)
        x, y = rng.randint(0, 8, 2)
        pixels[y : y + 8, x : x + 8] = rng.randint(0, 256, 3)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched")
    draw(folder / "pictures")
    return folder


@pytest.fixture(scope="module")
def go(folder: Path) -> Callable[..., Outcome]:
    """Runs the spec under a name, or goes on with it."""

    def start(name: str, build: Build = recipes.build, stop_at: int | None = None, **diagnosis: Any) -> Outcome:
        torch.set_num_threads(1)
        said: list[dict[str, Any]] = []
        spec = yaml.safe_load(SPEC) | {"diagnosis": {"samples": 16, **diagnosis}}
        around = Surroundings(
            folder / name, folder / "cache", Roots(folder), watch=said.append,
            should_stop=lambda: stop_at is not None and any(event.get("images", 0) >= stop_at for event in said),
        )  # fmt: skip
        run(load(yaml.safe_dump(spec), name), around, build)
        return around.out, said

    return start


def weights(out: Path) -> dict[str, Any]:
    """Every tensor of the newest checkpoint, by name."""
    parts = state.load_verified(state.complete(out / "checkpoints")[-1].path)["parts"]
    return {f"{part}.{name}": x for part in ("G", "D", "G_ema") for name, x in parts[part].items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_is_the_same_bit_for_bit_with_and_without_diagnosis(go: Callable[..., Outcome]) -> None:
    with_it, said = go("whole")
    without, silent = go("without", enabled=False, wiring=False)
    assert same(weights(with_it), weights(without))
    assert {event["detector"] for event in said if event["event"] == "verdict"} >= {"wiring", "collapse", "non_finite"}
    assert not [event for event in silent if event["event"] in ("verdict", "statistics")]
    assert not [event for event in said if NOT_EXAMINED in event.get("message", "")]


def test_a_resumed_run_says_what_an_unbroken_one_says(go: Callable[..., Outcome]) -> None:
    whole, _ = go("whole")
    with pytest.raises(Interrupted):
        go("halves", stop_at=40)
    halves, _ = go("halves")
    assert same(weights(whole), weights(halves))

    def measured(out: Path) -> list[Any]:
        events = [event for event in read_events(out / "events.jsonl") if event["event"] == "statistics"]
        return [(event["images"], {**event["statistics"], "memory_growth": None}) for event in events]

    assert measured(whole) == measured(halves)


def test_verdicts_reach_the_report(go: Callable[..., Outcome]) -> None:
    out, _ = go("told", detectors={"style_ignored": {"threshold": 2.0}}, grace_images=0)
    report = Report.load(out / "report.json")
    latest = {verdict.detector: verdict for verdict in report.verdicts}
    assert latest["style_ignored"].verdict == "failure"
    assert latest["style_ignored"].threshold == 2.0
    assert "written in the spec" in latest["style_ignored"].message
    assert isinstance(latest["style_ignored"].evidence, str) and (out / latest["style_ignored"].evidence).exists()
    assert latest["wiring"].verdict == "healthy"
    page = (out / "report.html").read_text()
    assert "data:image/webp" in page and "listens to its noise inputs" in page


def test_a_detector_can_be_turned_off(go: Callable[..., Outcome]) -> None:
    _, said = go("off", detectors={"style_ignored": {"enabled": False}})
    assert "style_ignored" not in {event.get("detector") for event in said}


def test_stop_ends_the_run_with_67_and_says_why(go: Callable[..., Outcome], folder: Path) -> None:
    with pytest.raises(Stopped, match="style_ignored") as caught:
        go("stop", detectors={"style_ignored": {"threshold": 2.0, "action": "stop"}}, grace_images=0)
    assert caught.value.exit_code == 67
    report = Report.load(folder / "stop" / "report.json")
    assert report.outcome == "diverged" and "style_ignored" in (report.outcome_message or "")
    assert report.images == 16, "at the first check"


def test_before_the_grace_is_over_pictures_are_not_judged(go: Callable[..., Outcome]) -> None:
    _, said = go("graceful", detectors={"style_ignored": {"threshold": 2.0, "action": "stop"}})
    assert [event["verdict"] for event in said if event.get("detector") == "style_ignored"] == ["healthy", "healthy"]


class Unstable(StyleGAN2):
    """Its loss is lost at 48 images, unless gamma was raised."""

    def step(self, batch: Any, images: int) -> Any:
        scalars = super().step(batch, images)
        if images == 48 and self.r1_gamma == self.section.r1.gamma:
            scalars["loss.generator"] = scalars["loss.generator"] * torch.nan
        return scalars


def unstable(job: Any, known: Known, precision: str, device: torch.device) -> StyleGAN2:
    return Unstable(job, known, precision, device)


def test_what_is_not_finite_is_a_verdict_with_the_term_and_the_moment(go: Callable[..., Outcome], folder: Path) -> None:
    with pytest.raises(Diverged):
        go("nan", unstable)
    verdicts = [event for event in read_events(folder / "nan" / "events.jsonl") if event["event"] == "verdict"]
    found = next(verdict for verdict in verdicts if verdict["verdict"] == "failure")
    assert found["detector"] == "non_finite" and "loss.generator first at 56 images" in found["message"]


def test_rollback_goes_on_from_the_last_healthy_checkpoint_with_the_stated_change(go: Callable[..., Outcome]) -> None:
    change = {"learning_rate_factor": 0.5, "r1_gamma_factor": 4.0}
    out, said = go("back", unstable, on_failure="rollback", rollback=change)
    notes = [event["message"] for event in said if event["event"] == "note"]
    assert any("back to 32, and on with learning rates x 0.5 and r1.gamma x 4" in note for note in notes)
    report = Report.load(out / "report.json")
    assert report.outcome == "finished"
    assert report.effective["r1.gamma"] == 4.0
    assert report.effective["learning_rate.generator"] == pytest.approx(0.0025 * 3 / 4 / 2)
    saved = state.load_verified(state.complete(out / "checkpoints")[-1].path)["progress"]["diagnosis"]
    assert saved["memory"]["rollbacks"] == [
        {"detector": "non_finite", "from_images": 56, "to_images": 32, **change},
    ]
    assert any(verdict.detector == "non_finite" and "back to 32" in verdict.message for verdict in report.verdicts)


@pytest.mark.parametrize("stop_at", [40, 80])
def test_a_run_with_a_rollback_can_be_stopped_anywhere(go: Callable[..., Outcome], stop_at: int) -> None:
    unbroken, _ = go("unbroken", unstable, on_failure="rollback")
    name = f"broken-{stop_at}"
    with pytest.raises(Interrupted):
        go(name, unstable, on_failure="rollback", stop_at=stop_at)
    broken, _ = go(name, unstable, on_failure="rollback")
    assert same(weights(unbroken), weights(broken))


def test_without_a_checkpoint_the_run_begins_again_and_after_the_limit_it_stops(
    go: Callable[..., Outcome], folder: Path
) -> None:
    detectors = {"style_ignored": {"threshold": 2.0, "action": "rollback"}}
    with pytest.raises(Stopped, match="after 2 rollbacks, which is the limit"):
        go("limit", detectors=detectors, grace_images=0, rollback={"limit": 2})
    events = (folder / "limit" / "events.jsonl").read_text()
    assert events.count("back to 0, and on with") >= 2


def test_a_recipe_that_is_wired_wrongly_stops_before_the_first_step(go: Callable[..., Outcome], folder: Path) -> None:
    def forgetful(job: Any, known: Known, precision: str, device: torch.device) -> StyleGAN2:
        recipe = StyleGAN2(job, known, precision, device)
        first, *others = recipe.G_optimizer.param_groups[0]["params"]
        recipe.G_optimizer.param_groups[0]["params"] = others
        assert first is recipe.G.mapping.layers[0].weight
        return recipe

    with pytest.raises(Miswired, match=r"G\.mapping\.layers\.0\.weight: a loss reaches it, but it is in no optimizer"):
        go("miswired", forgetful)
    assert Report.load(folder / "miswired" / "report.json").verdicts[0].verdict == "failure"


def test_a_tensor_that_does_not_move_stops_the_run_after_the_tenth_step(go: Callable[..., Outcome]) -> None:
    class Frozen(StyleGAN2):
        def _descend(self, network: Any, optimizer: Any) -> Any:
            if network is self.G:
                self.G.synthesis.blocks[1].conv0.injection.affine.bias.grad = None
            return super()._descend(network, optimizer)

    def frozen(*arguments: Any) -> StyleGAN2:
        recipe = Frozen(*arguments)
        recipe.G.synthesis.blocks[1].conv0.injection.affine.bias.register_hook(torch.zeros_like)
        return recipe

    with pytest.raises(
        Miswired, match=r"G\.synthesis\.blocks\.1\.conv0\.injection\.affine\.bias: has not moved in 10 steps"
    ):
        go("frozen", frozen)


def test_what_goes_wrong_in_the_diagnosis_never_ends_the_run(go: Callable[..., Outcome]) -> None:
    class Untouchable(StyleGAN2):
        def judge_gradient(self, batch: Any) -> Any:
            raise RuntimeError("not today")

    _, said = go("untouchable", lambda *arguments: Untouchable(*arguments))
    assert any(f"{NOT_EXAMINED} (RuntimeError: not today)" == event.get("message") for event in said)
    assert said[-1]["event"] in ("end", "verdict")
