"""Seeds, EMA, lazy Adam, checkpoints and the loop's own promises."""

import json
import math
import pickle
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs import recipes
from jobs.errors import DataError, Diverged, Interrupted, StoreError
from jobs.events import EventLog, read_events
from jobs.spec import load_file
from jobs.spec.stylegan2 import Adam as AdamSection
from jobs.training import loop, state
from jobs.training.device import choose_device, choose_precision
from jobs.training.ema import ema_beta, frozen_copy, update_ema
from jobs.training.loop import Hooks, Means, Plan, train
from jobs.training.optimizer import lazy_adam, sanitise_gradients
from jobs.training.recipe import Known
from jobs.training.seeds import derived_seed, seed_step
from jobs.training.state import Progress
from jobs.training.team import ALONE
from tests.tiny import TINY


def build():
    return recipes.build(load_file(TINY).job, Known(), "fp32", torch.device("cpu"))


# Seeds


@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=40, unique=True))
def test_seeds_of_different_places_differ(images):
    assert len({derived_seed("step", 0, 0, count) for count in images}) == len(images)


def test_a_step_draws_what_its_place_says():
    seed_step(1, 640)
    first = torch.randn(5)
    torch.randn(100)
    seed_step(1, 640)
    assert torch.equal(torch.randn(5), first)
    for other in ((2, 640), (1, 641)):
        seed_step(*other)
        assert not torch.equal(torch.randn(5), first)


# EMA and Adam


def test_ema_half_life_is_a_half_life():
    beta = ema_beta(32, 10**9, 10_000, 0.0)
    assert beta ** (10_000 / 32) == pytest.approx(0.5)
    assert ema_beta(32, 0, 10_000, 0.05) == 0.0  # at the very start the average is the network itself
    assert ema_beta(32, 20_000, 10_000, 0.05) ** (1000 / 32) == pytest.approx(0.5)


def test_ema_moves_parameters_and_copies_buffers():
    module = torch.nn.BatchNorm1d(3)
    average = frozen_copy(module)
    with torch.no_grad():
        module.weight.fill_(3.0)
        module.running_mean.fill_(5.0)
    update_ema(average, module, 0.75)
    assert average.weight.tolist() == [1.5] * 3 and average.running_mean.tolist() == [5.0] * 3
    assert not average.weight.requires_grad and not average.training


def test_lazy_adam_corrects_rate_and_betas():
    parameter = torch.nn.Parameter(torch.zeros(1))
    section = AdamSection(learning_rate=0.002, betas=(0.0, 0.99))
    group = lazy_adam([parameter], section, 16).param_groups[0]
    assert group["lr"] == pytest.approx(0.002 * 16 / 17)
    assert group["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))
    assert lazy_adam([parameter], section, None).param_groups[0]["lr"] == 0.002


def test_float16_gradients_are_made_finite():
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([math.nan, math.inf, -math.inf])
    sanitise_gradients([parameter])
    assert parameter.grad.tolist() == [0.0, 1e5, -1e5]


def test_the_device_and_precision_are_explained():
    assert choose_device("cpu").type == "cpu"
    assert choose_precision("fp16", torch.device("cpu")).value == "fp16"
    choice = choose_precision("auto", torch.device("cpu"))
    assert choice.value in ("fp32", "bf16") and choice.why.startswith("auto: ")


# Checkpoints


@pytest.fixture
def saved(tmp_path):
    recipe = build()
    for images in (16, 32, 48):
        state.save(tmp_path, state.snapshot(Progress(images, 1.5, 1), recipe, {"spec": "{}"}), keep=2)
    return tmp_path, recipe


def test_only_the_newest_checkpoints_are_kept(saved):
    folder, _ = saved
    assert [checkpoint.images for checkpoint in state.complete(folder)] == [32, 48]


def test_a_checkpoint_holds_everything(saved):
    folder, recipe = saved
    other = build()
    with torch.no_grad():
        for parameter in other.networks["G"].parameters():
            parameter.add_(1)
    progress, passed_over = state.restore(folder, other)
    assert (progress.images, progress.seconds, passed_over) == (48, 1.5, [])
    for name, part in recipe.parts.items():
        assert repr(part.state_dict()) == repr(other.parts[name].state_dict())


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(saved, damage):
    folder, _ = saved
    newest = folder / "000000048"
    file = newest / "state.pt"
    content = file.read_bytes()
    match damage:
        case "truncate":
            file.write_bytes(content[: len(content) // 2])
        case "flip":
            file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case "remove":
            file.unlink()
        case "manifest":
            (newest / "MANIFEST.json").write_text("{")
    progress, passed_over = state.restore(folder, build())
    assert progress.images == 32
    assert damage == "manifest" or "earlier checkpoint" in passed_over[0]


def test_what_was_left_by_a_kill_is_no_checkpoint(saved):
    folder, _ = saved
    shutil.copytree(folder / "000000048", folder / ".writing-000000064")
    shutil.copytree(folder / "000000048", folder / "000000064")
    (folder / "000000064" / "MANIFEST.json").unlink()
    assert state.restore(folder, build())[0].images == 48


class Bomb:
    """Would make a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_loading_a_checkpoint_never_executes_code(saved):
    folder, _ = saved
    made = folder / "made-by-a-pickle"
    for checkpoint in state.complete(folder):
        file = checkpoint.path / "state.pt"
        torch.save({"format": 1, "parts": Bomb(str(made)), "progress": {}}, file, pickle_module=pickle)
        manifest = json.loads((checkpoint.path / "MANIFEST.json").read_text())
        manifest["files"]["state.pt"] = {"sha256": state.sha256(file), "bytes": file.stat().st_size}
        (checkpoint.path / "MANIFEST.json").write_text(json.dumps(manifest))
        with pytest.raises(DataError, match="not a checkpoint that can be loaded safely"):
            state.load_verified(checkpoint.path)
    assert not made.exists()


def test_a_checkpoint_of_another_spec_is_refused_by_name(saved):
    folder, _ = saved
    other = build()
    other.G.mapping.layers[0] = torch.nn.Linear(3, 3)
    with pytest.raises(DataError, match=r"does not fit the spec"):
        state.restore(folder, other)


def test_a_full_disk_is_a_store_error_and_keeps_the_previous_checkpoint(saved, monkeypatch):
    folder, recipe = saved

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.torch, "save", full)
    with pytest.raises(StoreError, match="No space left"):
        state.save(folder, state.snapshot(Progress(64), recipe, {}), keep=2)
    assert state.complete(folder)[-1].images == 48 and not list(folder.glob(".writing-*"))


# The loop


class Fake:
    """A recipe that only counts."""

    team = ALONE

    def __init__(self, values=lambda images: 1.0):
        self.values, self.seen = values, []

    def step(self, batch, images):
        self.seen.append((images, torch.rand(()).item()))
        return {"loss.generator": torch.tensor(self.values(images)), "other": torch.tensor(2.0)}


def run_fake(tmp_path, recipe, images=100, start=0, should_stop=lambda: False):
    happened = []
    hooks = Hooks(*(lambda p, what=what: happened.append((what, p.images)) for what in ("show", "save", "measure")))
    plan = Plan(images, 10, 0, sample_images=40, checkpoint_images=50, evaluate_images=30, progress_seconds=1e9)
    events = EventLog(tmp_path / "events.jsonl")
    train(recipe, iter(lambda: None, 1), plan, Progress(start), hooks, events, should_stop)
    return happened


def test_the_clock_says_when(tmp_path):
    happened = run_fake(tmp_path, Fake())
    assert happened == [
        ("show", 0), ("measure", 30), ("show", 40), ("save", 50), ("measure", 60), ("show", 80), ("measure", 90),
        ("show", 100), ("save", 100),
    ]  # fmt: skip
    progress = [event for event in read_events(tmp_path / "events.jsonl") if event["event"] == "progress"]
    assert [event["images"] for event in progress] == [50, 100]
    assert progress[0]["losses"] == {"generator": 1.0} and progress[0]["statistics"] == {"other": 2.0}


def test_where_the_time_went_is_told_from_the_first_to_the_last_step(tmp_path, monkeypatch):
    now = 0.0

    def pass_by(seconds):
        nonlocal now
        now += seconds
        return 1.0

    monkeypatch.setattr(loop.time, "monotonic", lambda: now)
    pauses = {what: (lambda _progress, s=s: pass_by(s)) for what, s in (("samples", 1), ("checkpoint", 2))}
    hooks = Hooks(**pauses, evaluate=lambda _: pass_by(4), reported=lambda _: pass_by(8), check=lambda _: pass_by(16))
    plan = Plan(40, 10, 0, sample_images=20, checkpoint_images=20, evaluate_images=20, progress_seconds=1e9)
    progress, events = Progress(), EventLog(tmp_path / "events.jsonl")
    batches = iter(lambda: pass_by(32) and None, 1)
    train(Fake(lambda _images: pass_by(64)), batches, plan, progress, hooks, events, lambda: False)
    # Pauses once, at 20 images: those before the first step and after the last one are not between steps.
    between = {"samples": 1, "checkpoints": 2, "evaluation": 4, "checks": 8 + 16}
    assert progress.time_seconds == {"training": 4 * 64, "waiting": 4 * 32, **between}
    assert progress.seconds == 4 * (64 + 32)


def test_draws_do_not_depend_on_where_a_run_was_stopped(tmp_path):
    whole, half = Fake(), Fake()
    run_fake(tmp_path, whole)
    run_fake(tmp_path, half, start=50)
    assert whole.seen[5:] == half.seen


def test_a_stop_leaves_a_checkpoint(tmp_path):
    saved, calls = [], iter([False, False, False, True])
    plan = Plan(100, 10, 0, sample_images=40, checkpoint_images=50, evaluate_images=None, progress_seconds=1e9)
    hooks = Hooks(lambda p: None, lambda p: saved.append(p.images), lambda p: None)
    with pytest.raises(Interrupted, match="30 of 100"):
        train(Fake(), iter(lambda: None, 1), plan, Progress(), hooks, EventLog(tmp_path / "e"), lambda: next(calls))
    assert saved == [30]


def test_a_loss_that_is_not_finite_stops_the_run_without_a_checkpoint_and_is_named(tmp_path):
    saved = []
    hooks = Hooks(lambda p: None, lambda p: saved.append(p.images), lambda p: None)
    plan = Plan(100, 10, 0, sample_images=40, checkpoint_images=50, evaluate_images=None, progress_seconds=1e9)
    recipe = Fake(lambda images: math.nan if images == 70 else 1.0)
    with pytest.raises(Diverged, match=r"loss\.generator = nan"):
        train(recipe, iter(lambda: None, 1), plan, Progress(), hooks, EventLog(tmp_path / "e"), lambda: False)
    assert saved == [50]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_means_are_means(values):
    means = Means()
    for value in values:
        means.add({"a": torch.tensor(value, dtype=torch.float64)})
    assert means.read()["a"] == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert means.read() == {}


def test_events_forget_what_a_resume_went_back_over(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.write("start", images=0)
    log.write("progress", images=50)
    log.write("progress", images=100)
    with path.open("a") as file:
        file.write('{"event": "progress", "ima')  # killed in the middle of a line
    log = EventLog(path)
    log.write("start", images=50)
    log.write("progress", images=80)
    assert [(e["event"], e["images"]) for e in read_events(path)] == [
        ("start", 0), ("progress", 50), ("start", 50), ("progress", 80),
    ]  # fmt: skip


def test_a_watcher_that_fails_never_stops_the_run(tmp_path):
    def broken(_event):
        raise RuntimeError("no terminal")

    log = EventLog(tmp_path / "events.jsonl", broken)
    log.write("note", message="still written")
    assert read_events(tmp_path / "events.jsonl")[0]["message"] == "still written"
