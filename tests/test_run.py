"""A whole run: what it leaves, that it goes on exactly where it stopped, and how it ends when it cannot go on."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from jobs import recipes
from jobs.errors import DataError, Diverged, Interrupted, SpecError
from jobs.evaluation import trust
from jobs.report import Report
from jobs.sampling import draw
from jobs.spec import load_file
from jobs.training import state
from jobs.training.recipe import Known
from tests.tiny import EVERY, TINY, loaded, run_tiny

QUICK = {"evaluation.sanity": False, "evaluation.untrained": False, "evaluation.samples": 8, "evaluation.batch": 8}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    run_tiny(loaded(), out, cache)
    return out


def final_state(out: Path) -> dict:
    newest = state.complete(out / "checkpoints")[-1]
    return {"images": newest.images, "parts": state.load_verified(newest.path)["parts"]}


def same(one, other) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def test_a_run_leaves_what_was_promised(finished):
    assert {path.name for path in finished.iterdir()} >= {
        "spec.yaml", "events.jsonl", "samples", "checkpoints", "report.json", "report.html",
    }  # fmt: skip
    assert sorted(path.name for path in (finished / "samples").iterdir()) == [
        "000000000.png", "000000128.png", "000000256.png",
    ]  # fmt: skip
    newest = finished / "checkpoints" / "000000256"
    assert {path.name for path in newest.iterdir()} == {"state.pt", "generator.safetensors", "MANIFEST.json"}
    manifest = json.loads((newest / "MANIFEST.json").read_text())
    for name, entry in manifest["files"].items():
        assert entry == {"sha256": state.sha256(newest / name), "bytes": (newest / name).stat().st_size}
    torch.load(newest / "state.pt", weights_only=True)
    assert load_file(finished / "spec.yaml").derived == ()


def test_the_report_says_how_good_and_how_it_came_about(finished):
    report = Report.load(finished / "report.json")
    assert (report.name, report.recipe, report.seed, report.images) == ("tiny-stylegan2", "stylegan2", 1, 256)
    assert report.outcome == "finished" and report.seconds > 0 and report.images_per_second
    trained = {(row.metric, row.features) for row in report.metrics if row.label == ""}
    assert {("fd", "pixels"), ("kid", "random_conv"), ("recall", "pixels")} <= trained
    assert ("modes_covered", "mode_templates") in trained
    assert any(row.label == "untrained" for row in report.metrics)
    assert any(row.label == trust.REAL for row in report.metrics)
    assert report.effective["r1.gamma"] == 1.0 and report.effective["accumulation"] == 2
    assert report.effective["learning_rate.generator"] == pytest.approx(0.0025 * 2 / 3)
    assert report.parameters == {"G": 12271, "D": 35829}
    assert len(report.attempts) == 1 and report.nearest is not None


def test_running_again_what_has_finished_changes_nothing(finished, cache):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    run_tiny(loaded(), finished, cache)
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert {k: v for k, v in after.items() if k.name != ".lock"} == {
        k: v for k, v in before.items() if k.name != ".lock"
    }


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_stopped_and_resumed_equals_unbroken(path, tmp_path, cache):
    """Weights, EMA, optimizers, running means, data position and every draw, bit for bit."""
    run_tiny(loaded(path, **QUICK), tmp_path / "whole", cache)
    for stop_at in (1, 4, 3):  # steps into each attempt
        with pytest.raises(Interrupted):
            count = iter(range(stop_at + 1))
            run_tiny(
                loaded(path, **QUICK), tmp_path / "broken", cache, should_stop=lambda c=count: next(c, None) is None
            )
    run_tiny(loaded(path, **QUICK), tmp_path / "broken", cache)
    assert same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))
    pictures = [sorted((tmp_path / name / "samples").iterdir()) for name in ("whole", "broken")]
    assert [p.read_bytes() for p in pictures[0]] == [p.read_bytes() for p in pictures[1]]
    report = Report.load(tmp_path / "broken" / "report.json")
    assert len(report.attempts) == 4 and report.images == 256


def test_a_run_can_be_made_longer(tmp_path, cache):
    run_tiny(loaded(**QUICK, **{"training.images": 128}), tmp_path / "out", cache)
    run_tiny(loaded(**QUICK), tmp_path / "out", cache)
    run_tiny(loaded(**QUICK), tmp_path / "whole", cache)
    assert same(final_state(tmp_path / "out"), final_state(tmp_path / "whole"))


def test_seeds_matter(tmp_path, cache):
    for seed in (1, 2):
        run_tiny(loaded(**QUICK, **{"training.images": 16, "seed": seed}), tmp_path / str(seed), cache)
    one, two = (final_state(tmp_path / seed)["parts"]["G"] for seed in ("1", "2"))
    assert not same(one, two)


def test_accumulation_gives_the_gradients_of_the_whole_batch(tmp_path, cache):
    """Without draws that depend on the micro-batch (noise, mixing, stddev groups) the updates agree to rounding."""
    fixed = {
        **QUICK, "training.images": 32, "recipe.generator.noise": {"mode": "off"}, "recipe.mixing_probability": 0,
        "recipe.path_length.weight": 0, "recipe.discriminator.stddev_group": 1,
    }  # fmt: skip
    real = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    grads = []
    for micro_batch in (16, 4):
        job = loaded(**{**fixed, "training.micro_batch": micro_batch}).job
        recipe = recipes.build(job, Known(), "fp32", torch.device("cpu"))
        z = torch.randn(16, 1, 16, generator=torch.Generator().manual_seed(5)).split(micro_batch)
        draws = iter([*z, *z])
        recipe.G.latents = lambda _count, _device, draws=draws: next(draws)
        recipe.D_optimizer.step = lambda: None  # keep weights; look at the gradients before they are cleared
        recipe.D_optimizer.zero_grad = lambda set_to_none=True: None
        from jobs.data import ImageBatch

        recipe.step(ImageBatch(real, None), 16)
        grads.append([p.grad.clone() for p in recipe.D.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_directory_of_another_run_is_not_touched(finished, cache):
    with pytest.raises(SpecError, match=r"recipe\.r1\.gamma: 1\.0 then, 2\.0 now"):
        run_tiny(loaded(**{"recipe.r1.gamma": 2.0}), finished, cache)


def test_missing_data_is_told_and_reported_as_exit_65(tmp_path, cache):
    job = loaded(**{"recipe.data": {"kind": "folder", "path": "not-there", "resolution": 32}})
    with pytest.raises(DataError, match="not-there") as caught:
        run_tiny(job, tmp_path / "out", cache)
    assert caught.value.exit_code == 65


def test_a_diverged_run_keeps_its_last_good_checkpoint_and_says_which_term(tmp_path, cache, monkeypatch):
    from jobs.recipes.stylegan2 import StyleGAN2

    step = StyleGAN2.step

    def poisoned(self, batch, images):
        if images == 160:
            with torch.no_grad():
                self.G.synthesis.blocks[0].constant.fill_(float("nan"))
        return step(self, batch, images)

    monkeypatch.setattr(StyleGAN2, "step", poisoned)
    with pytest.raises(Diverged, match=r"loss\.generator = nan") as caught:
        run_tiny(loaded(**QUICK), tmp_path / "out", cache)
    assert caught.value.exit_code == 67
    assert final_state(tmp_path / "out")["images"] == 128
    report = Report.load(tmp_path / "out" / "report.json")
    assert report.outcome == "diverged" and "loss.generator" in str(report.outcome_message)
    assert (tmp_path / "out" / "report.html").exists()


def test_out_of_memory_says_what_to_write(tmp_path, cache, monkeypatch):
    from jobs.recipes.stylegan2 import StyleGAN2

    def too_much(self, batch, images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StyleGAN2, "step", too_much)
    with pytest.raises(Exception, match=r"training\.micro_batch: 8 images at a time do not fit") as caught:
        run_tiny(loaded(**QUICK), tmp_path / "out", cache)
    assert caught.value.exit_code == 66


# The command, as a process


@contextlib.contextmanager
def gankiln(*arguments: str) -> Iterator[subprocess.Popen]:
    """The command as a process of its own, gone when the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "service", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def spec_file(folder: Path, **changes) -> Path:
    spec = yaml.safe_load(TINY.read_text())
    spec["training"] |= {"images": 800, "checkpoint_images": 80, "sample_images": 400}
    spec["evaluation"] |= {"samples": 8, "sanity": False, "untrained": False, "features": ["pixels"]}
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec | changes))
    return path


def finished_before(out: Path) -> bool:
    path = out / "report.json"
    return path.exists() and Report.load(path).outcome == "finished"


def wait_for_training(out: Path) -> None:
    """Until the newest attempt has begun to train, or the run has ended."""
    size = (out / "events.jsonl").stat().st_size if out.exists() else 0
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (out / "events.jsonl").exists():
            with (out / "events.jsonl").open() as file:
                file.seek(size)
                if '"phase": "training"' in (new := file.read()) or '"outcome"' in new:
                    return
        if finished_before(out):
            return
        time.sleep(0.05)
    raise AssertionError("the run never started")


def test_ten_kills_at_random_moments_change_nothing(tmp_path, cache):
    spec = spec_file(tmp_path)

    def run(out: str):
        return gankiln("run", str(spec), "--out", str(tmp_path / out), "--cache-dir", str(cache))

    with run("whole") as whole:
        assert whole.wait(300) == 0, whole.stderr.read()
    moments = random.Random(0)
    for _ in range(10):
        with run("broken"):
            wait_for_training(tmp_path / "broken")
            time.sleep(moments.uniform(0.0, 1.0))
    with run("broken") as last:
        assert last.wait(300) == 0, last.stderr.read()
    assert len(Report.load(tmp_path / "broken" / "report.json").attempts) >= 3
    assert same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_after_a_checkpoint(tmp_path, cache, number, code):
    out = tmp_path / "out"
    with gankiln("run", str(spec_file(tmp_path)), "--out", str(out), "--cache-dir", str(cache)) as process:
        wait_for_training(out)
        process.send_signal(number)
        assert process.wait(120) == code
        assert b"stopped at" in process.stderr.read()
    assert state.complete(out / "checkpoints")
    assert Report.load(out / "report.json").outcome == "interrupted"


MISSING = {"kind": "stylegan2", "data": {"kind": "zip", "path": "gone.zip", "resolution": 32}}


@pytest.mark.parametrize(
    ("change", "code", "said"), [({"seed": -1}, 64, b"seed"), ({"recipe": MISSING}, 65, b"gone.zip")]
)
def test_exit_codes(tmp_path, cache, change, code, said):
    spec, out = str(spec_file(tmp_path, **change)), str(tmp_path / "out")
    with gankiln("run", spec, "--out", out, "--cache-dir", str(cache)) as process:
        _, error = process.communicate(timeout=120)
    assert process.returncode == code and said in error and b"Traceback" not in error


# Sampling


def test_sampling_draws_the_same_pictures_again_and_needs_neither_data_nor_state(finished, tmp_path):
    checkpoint = finished / "checkpoints" / "000000256"
    pictures = draw(checkpoint, 3, 7)
    assert pictures.shape == (3, 3, 32, 32) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, draw(finished, 3, 7))
    alone = tmp_path / "generator.safetensors"
    alone.write_bytes((checkpoint / "generator.safetensors").read_bytes())
    np.testing.assert_array_equal(pictures, draw(alone, 3, 7))
    assert not np.array_equal(pictures, draw(finished, 3, 8))
    assert not np.array_equal(pictures, draw(finished, 3, 7, truncation_psi=0.3))
    with safe_open(alone, framework="pt") as file:
        assert json.loads(file.metadata()["spec"])["name"] == "tiny-stylegan2"


def test_sampling_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "generator.safetensors").write_bytes(b"not tensors")
    for path in (tmp_path, tmp_path / "generator.safetensors", tmp_path / "nowhere"):
        with pytest.raises(DataError):
            draw(path, 1, 0)


def test_a_generator_of_another_version_is_refused_by_the_key_that_has_changed(finished, tmp_path):
    with safe_open(finished / "checkpoints" / "000000256" / "generator.safetensors", framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        metadata = file.metadata()
    spec = json.loads(metadata["spec"]) | {"seed": "often"}
    save_file(weights, tmp_path / "generator.safetensors", metadata | {"spec": json.dumps(spec)})
    with pytest.raises(DataError, match=r"none of this version \(seed: "):
        draw(tmp_path / "generator.safetensors", 1, 0)


def test_sample_command_writes_pictures_and_a_grid(finished, tmp_path):
    with gankiln("sample", str(finished), "--out", str(tmp_path / "s"), "--count", "5", "--seed", "3") as process:
        assert process.wait(120) == 0
    files = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert files == [*(f"0003-{index:05d}.png" for index in range(5)), "0003-grid.png"]
    with Image.open(tmp_path / "s" / "0003-00000.png") as picture:
        assert picture.size == (32, 32)


def test_help_and_check_do_not_import_torch():
    for arguments in (["--help"], ["check", str(TINY)]):
        code = "import sys; from service.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.stdout.endswith("False\n"), arguments
