"""Two processes train as one does: the same weights but for rounding, for every recipe; stopped, resumed by another
number; and whatever ends one of them ends the job with its reason."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import DeviceError, Diverged, InternalError, Interrupted, SpecError
from jobs.events import read_events
from jobs.spec import load
from jobs.spec.resolve import micro_batches
from jobs.training import state
from jobs.training.shares import Shares
from tests.tiny import EVERY, TINY, loaded, run_tiny

QUICK = {
    "training.images": 192, "training.checkpoint_images": 96, "training.sample_images": 192,
    "evaluation.samples": 16, "evaluation.sanity": False, "evaluation.untrained": False,
    "evaluation.metrics": ["fd"], "evaluation.features": ["pixels"], "evaluation.intervals": False,
    "diagnosis.enabled": False, "diagnosis.wiring": False,
}  # fmt: skip
BY_NAME = {path.stem: path for path in EVERY}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def parts(out: Path) -> dict:
    """Everything that the newest checkpoint holds."""
    return state.load_verified(state.complete(out / "checkpoints")[-1].path)["parts"]


def flat(value, path: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in nested `value`, by its path."""
    if isinstance(value, torch.Tensor):
        return {path: value.double()}
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {name: tensor for key, part in inner for name, tensor in flat(part, f"{path}/{key}").items()}


def furthest(one: Path, other: Path) -> tuple[float, str]:
    """The largest difference between two runs' last checkpoints, and where it is."""
    ours, theirs = flat(parts(one)), flat(parts(other))
    assert ours.keys() == theirs.keys()
    return max((float((ours[name] - theirs[name]).abs().max()), name) for name in ours if ours[name].numel())


def others_of(leader: psutil.Process) -> list[psutil.Process]:
    """The processes that it has started to train with it; a test process also has servers."""
    return [child for child in leader.children() if "jobs.beside" in child.cmdline()]


@pytest.mark.parametrize("name", BY_NAME)
def test_two_processes_train_as_one_does(name, tmp_path, cache):
    for devices, out in ((1, "one"), (2, "two")):
        run_tiny(loaded(BY_NAME[name], **QUICK, **{"training.devices": devices}), tmp_path / out, cache)
    far, where = furthest(tmp_path / "one", tmp_path / "two")
    assert far < 1e-5, where
    one, two = ([event for event in read_events(tmp_path / out / "events.jsonl") if event["event"] == "progress"][-1]
                for out in ("one", "two"))  # fmt: skip
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-4)
    assert two["statistics"] == pytest.approx(one["statistics"], abs=1e-3)


def test_a_run_goes_on_with_another_number_of_processes(tmp_path, cache):
    run_tiny(loaded(**QUICK), tmp_path / "unbroken", cache)
    for devices, steps in ((2, 3), (1, 5), (2, 100)):
        asked = iter(range(steps))
        with contextlib.suppress(Interrupted):
            run_tiny(
                loaded(**QUICK, **{"training.devices": devices}), tmp_path / "broken", cache,
                should_stop=lambda asked=asked: next(asked, None) is None,
            )  # fmt: skip
    assert furthest(tmp_path / "unbroken", tmp_path / "broken")[0] < 1e-5


def test_a_run_of_one_process_may_go_on_in_two_whose_micro_batches_are_smaller(tmp_path, cache):
    whole = loaded(**QUICK, **{"training.micro_batch": 16})
    with pytest.raises(Interrupted):
        run_tiny(whole, tmp_path / "run", cache, should_stop=iter([False, False, True]).__next__)
    run_tiny(loaded(**QUICK, **{"training.micro_batch": 8, "training.devices": 2}), tmp_path / "run", cache)


def test_a_verdict_that_goes_back_takes_the_other_process_along(tmp_path, cache):
    """A learning rate that diverges: both processes go back, change their rates, and fail again alike."""
    wild = QUICK | {
        "diagnosis.enabled": True, "diagnosis.on_failure": "rollback", "diagnosis.rollback": {"limit": 2},
        "recipe.optimizer.learning_rate": 1e12, "recipe.path_length.weight": 0,
    }  # fmt: skip
    said = {}
    for devices in (1, 2):
        out = tmp_path / str(devices)
        with pytest.raises(Diverged):
            run_tiny(loaded(**wild, **{"training.devices": devices}), out, cache)
        lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        said[devices] = [(event["outcome"], event["images"]) for event in lines if event["event"] == "end"]
    assert said[2] == said[1]
    assert [outcome for outcome, _ in said[2]] == ["rolled back", "rolled back", "diverged"]


def test_a_process_that_is_lost_ends_the_job_with_a_word(tmp_path, cache):
    def kill_the_other(event):
        if event["event"] == "progress":
            for other in others_of(psutil.Process()):
                other.kill()

    lasting = {**QUICK, "training.images": 100_000, "training.devices": 2, "training.progress_seconds": 0.1}
    with pytest.raises(InternalError, match="process 1 of the 2 that train this job ended with signal 9"):
        run_tiny(loaded(**lasting), tmp_path, cache, watch=kill_the_other)
    assert read_events(tmp_path / "events.jsonl")[-1]["outcome"] == "failed"


def test_the_others_are_gone_before_the_first_process_evaluates(tmp_path, cache):
    left = []

    def count_others(event):
        if event["event"] == "evaluation":
            left.append(len(psutil.wait_procs(others_of(psutil.Process()), timeout=30)[1]))

    run_tiny(loaded(**QUICK, **{"training.devices": 2}), tmp_path, cache, watch=count_others)
    assert left == [0]


def test_a_stop_leaves_a_checkpoint_and_no_process(tmp_path, cache):
    spec = tmp_path / "spec.yaml"
    lasting = {**QUICK, "training.images": 1_000_000, "training.devices": 2}
    spec.write_text(yaml.safe_dump(loaded(**lasting).job.model_dump(mode="json")))
    command = [sys.executable, "-m", "service", "run", spec, "--out", tmp_path / "out", "--cache-dir", cache]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        next(line for line in running.stdout if '"phase": "training"' in line)
        others = others_of(psutil.Process(running.pid))
        assert len(others) == 1
        running.terminate()
        running.stdout.read()
    assert running.returncode == 128 + signal.SIGTERM
    assert not others[0].is_running()
    assert state.complete(tmp_path / "out" / "checkpoints")


def test_torchrun_may_start_the_processes(tmp_path, cache):
    run_tiny(loaded(**QUICK), tmp_path / "one", cache)
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(loaded(**QUICK, **{"training.devices": 2}).job.model_dump(mode="json")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "service",
               "run", spec, "--out", tmp_path / "two", "--cache-dir", cache]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1
    assert furthest(tmp_path / "one", tmp_path / "two")[0] < 1e-5


def test_torchrun_with_another_number_is_refused(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match=r"training\.devices: 1, but torchrun has started 2 processes"):
        run_tiny(loaded(**QUICK), tmp_path, cache)


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        (TINY, {"training.devices": 3}, r"training\.devices: 3 devices cannot share a batch of 16 equally"),
        (TINY, {"training.devices": 4}, r"micro_batch: 8 does not divide the 4 images that each of 4 devices gets"),
        (BY_NAME["translation"], {"training.devices": 2, "recipe.generator.norm": "batch"}, "batch normalisation"),
        (BY_NAME["sketch"], {"training.devices": 2, "recipe.generator.noise": "shared"}, "noise that a batch shares"),
    ],
)
def test_what_devices_cannot_share_is_refused(path, changes, said):
    with pytest.raises(SpecError, match=said):
        loaded(path, **changes)


def test_devices_get_equal_shares_without_being_told():
    spec = yaml.safe_load(TINY.read_text())
    del spec["training"]["micro_batch"]
    spec["training"]["devices"] = 2
    job = load(yaml.safe_dump(spec), "spec").job
    assert job.training.micro_batch == 8
    assert micro_batches(job) == (8, 4)


@given(pieces=st.integers(2, 8), cut=st.integers(1, 7), seed=st.integers(0, 2**40))
def test_what_a_micro_batch_draws_follows_from_its_place(pieces, cut, seed):
    cut = min(cut, pieces - 1)
    whole = drawn(seed, 0, pieces, pieces)
    assert torch.equal(torch.cat([drawn(seed, 0, cut, pieces), drawn(seed, cut, pieces - cut, pieces)], 1), whole)
    assert len({float(value) for value in whole.flatten()}) == whole.numel(), "no two draw the same"
    assert not torch.equal(whole, drawn(seed + 1, 0, pieces, pieces))
    assert not torch.equal(whole, drawn(seed, 0, pieces, pieces, phase="other"))


def drawn(seed: int, first: int, count: int, total: int, phase: str = "") -> torch.Tensor:
    """What `count` micro-batches draw in two rounds, [2, count, 3], while nothing outside moves on."""
    torch.manual_seed(seed)
    shares = Shares(range(count), first, total, phase)
    rounds = torch.stack([torch.stack([torch.rand(3, dtype=torch.float64) for _ in shares]) for _ in range(2)])
    after = torch.rand(3)
    torch.manual_seed(seed)
    assert torch.equal(after, torch.rand(3))
    return rounds


def test_a_single_share_draws_from_the_step_itself():
    torch.manual_seed(5)
    (inside,) = [torch.rand(3) for _ in Shares([0], 0, 1, "")]
    torch.manual_seed(5)
    assert torch.equal(inside, torch.rand(3))
