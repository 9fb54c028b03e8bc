"""A job that does not fit is fitted: smaller micro-batches, then recomputed activations. The gradients stay."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import recipes
from jobs.data import Roots, Shown, open_data
from jobs.errors import DoesNotFit, Interrupted
from jobs.report import Report
from jobs.run import _class_counts
from jobs.spec import Job
from jobs.spec.resolve import micro_batches
from jobs.spec.size import size
from jobs.systems import Beforehand, known_of
from jobs.training import fitting
from jobs.training.fitting import LiveBytes
from jobs.training.recipe import Known
from tests.benchmarks.cases import SPECS, Case, noise
from tests.test_run import QUICK, final_state, same
from tests.tiny import EVERY, loaded, run_tiny

CPU = torch.device("cpu")
BY_NAME = {path.stem: path for path in EVERY}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def prepared(job: Job, cache: Path):
    """The recipe's maker and one batch."""
    dataset = open_data(job.recipe.data, cache_dir=cache / "data", roots=Roots(Path("tests/specs")))
    known = known_of(
        Known(_class_counts(dataset), dataset.conditions),
        Beforehand(job, dataset, CPU, Roots(Path("tests/specs")), cache, None, print),
    )
    whole = np.arange(job.training.batch) % len(dataset)
    batch = dataset.gather(Shown(job.seed, whole, whole, np.zeros(len(whole), np.bool_)))
    return (lambda: recipes.build(job, known, "fp32", CPU)), batch


def gradients(recipe, batch) -> dict[str, torch.Tensor]:
    """Of one step, as the optimizers get them."""
    found: dict[str, torch.Tensor] = {}
    for name, optimizer in recipe.optimizers.items():

        def note(optimizer, *_args, name=name):
            for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
                if parameter.grad is not None:
                    found.setdefault(f"{name}.{index}", parameter.grad.clone())

        optimizer.register_step_pre_hook(note)
    torch.manual_seed(5)
    recipe.step(batch, 0)
    return found


def test_live_bytes_are_counted_and_forgotten():
    with LiveBytes(CPU) as meter:
        first = torch.zeros(1000)
        view = first[10:]
        assert meter.now == 4000
        second = first + 1
        assert (meter.now, meter.peak) == (8000, 8000)
        del first
        assert meter.now == 8000, "the view holds it"
        del view, second
        assert (meter.now, meter.peak) == (0, 8000)
    meter.close()


def test_what_a_backward_pass_keeps_is_counted():
    x = torch.rand(100, 100, requires_grad=True)
    with LiveBytes(CPU) as meter:
        y = x.sigmoid()
        z = y.sigmoid()
        del y  # kept by the graph
        assert meter.now == 2 * 40_000
        del z
        assert meter.now == 0
    meter.close()


@pytest.mark.parametrize("loss", ["lsgan", "wgan-gp", "dragan", "hinge"])
def test_fitted_and_unfitted_translations_have_the_same_gradients(cache, loss):
    """To 1e-5: micro-batches of any size, recomputed or kept. In float64: sums of float32 differ by as much."""
    job = loaded(BY_NAME["translation"], **{"training.micro_batch": 16, "recipe.loss.adversarial": loss}).job
    build, batch = prepared(job, cache)

    def exact():
        recipe = build()
        for network in recipe.networks.values():
            network.double().dtype = torch.float64
        recipe.G_ema.double()
        return recipe

    whole = gradients(exact(), batch)
    for micro_batch, recompute in ((4, False), (1, True), (16, True)):
        recipe = exact()
        fitting.apply(recipe, micro_batch, recompute=recompute)
        parts = gradients(recipe, batch)
        assert parts.keys() == whole.keys()
        for name, gradient in whole.items():
            tolerance = 1e-5 * max(float(gradient.abs().max()), 1.0)
            assert torch.allclose(parts[name], gradient, atol=tolerance, rtol=0), (name, micro_batch, recompute)


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_recomputing_changes_nothing_in_any_recipe(path, cache):
    """Bit for bit, random draws included; and what lives at once never gets more, but where a penalty differentiates
    twice: everything is kept then, and the inputs of blocks beside it."""
    job = loaded(path).job
    build, batch = prepared(job, cache)
    size_ = job.training.micro_batch
    kept, recomputed = build(), build()
    fitting.apply(recomputed, size_, recompute=True)
    one, other = gradients(kept, batch), gradients(recomputed, batch)
    assert all(torch.equal(other[name], gradient) for name, gradient in one.items())
    second = (job.training.batch, job.training.batch)  # an iteration without lazy penalties
    for moments, most in ((second, 1.0), ((0, 0), 1.02)):
        peaks = [fitting.measure(build, batch, size_, again, 10**12, CPU, moments) for again in (False, True)]
        assert peaks[1] <= most * peaks[0]


CASES = (
    *(Case(recipe, 32, 32, batch=16, micro_batch=4) for recipe in SPECS),
    *(Case(recipe, 64, 16, batch=4) for recipe in SPECS),
    Case("stylegan2", 32, 256, batch=4),  # weights are most of it
    Case("stylex", 32, 128, batch=4),
    Case("sketch", 32, 256, batch=4),
    Case("translation", 32, 256, batch=1),
    Case("stylegan2", 32, 32, precision="bf16"),
    Case("talking_face", 64, 64, precision="bf16"),
    Case("stylegan2", 32, 32, changes="path_length: {weight: 2, batch_shrink: 1}"),
    Case("stylex", 32, 32, changes="reconstruction: {perceptual: {kind: none}}"),
    Case("translation", 32, 16, changes="loss: {adversarial: wgan-gp}"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_check_predicts_what_a_step_takes(case):
    """To 15 %, the bound that is promised."""
    job = case.job()
    assert holds_what_it_promises(job, case.builder(CPU), noise(job))


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_check_predicts_what_a_step_of_a_tiny_spec_takes(path, cache):
    job = loaded(path).job
    build, batch = prepared(job, cache)
    assert holds_what_it_promises(job, build, batch)


def holds_what_it_promises(job: Job, build, batch) -> bool:
    moments = fitting.moments_of(job.training.images, job.training.batch)
    measured = fitting.measure(build, batch, job.training.micro_batch, False, 10**12, CPU, moments)
    assert isinstance(measured, int)
    print(f"measured {measured / 1e6:.2f} MB, predicted {size(job).memory_bytes / 1e6:.2f} MB")
    return abs(size(job).memory_bytes / measured - 1) <= 0.15


def test_only_micro_batches_with_the_same_gradients_are_tried():
    assert micro_batches(loaded(BY_NAME["translation"]).job) == (8, 4, 2, 1)
    batch_norm = loaded(BY_NAME["translation"], **{"recipe.discriminator.norm": "batch"}).job
    assert micro_batches(batch_norm) == (8,)
    groups = loaded(BY_NAME["stylegan2"]).job  # minibatch deviation over groups of 4
    assert micro_batches(groups) == (8, 4)
    alone = loaded(BY_NAME["stylegan2"], **{"recipe.discriminator.stddev_group": 1}).job
    assert micro_batches(alone) == (8, 4, 2), "path lengths take half of a micro-batch"


def test_a_job_too_large_for_its_limit_ends_trained_and_says_how(tmp_path, cache):
    """The accumulation is reported; stopped and resumed equals unbroken, though resumed with another limit."""
    tight = {**QUICK, "training.max_memory_bytes": 6_000_000, "diagnosis.enabled": False}
    job = loaded(BY_NAME["translation"], **tight)
    run_tiny(job, tmp_path / "whole", cache)
    report = Report.load(tmp_path / "whole" / "report.json")
    assert report.outcome == "finished" and report.images == 256
    assert (report.accumulation, report.effective["micro_batch"], report.effective["activations"]) == (8, 2, "kept")
    said = [note for note in report.notes if note.startswith("memory: ")]
    assert len(said) == 3 and "8 images at a time: more than 6.0 MB, most of it in " in said[0]
    assert said[-1].startswith("memory: 2 images at a time: a step takes 5.")

    with pytest.raises(Interrupted):
        stops = iter(range(5))
        run_tiny(job, tmp_path / "broken", cache, should_stop=lambda: next(stops, None) is None)
    run_tiny(job, tmp_path / "broken", cache)
    assert same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))
    events = [json.loads(line) for line in (tmp_path / "broken" / "events.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "note" and event["message"].startswith("memory: ") for event in events) == 3


def test_activations_are_recomputed_where_smaller_micro_batches_are_not_enough(tmp_path, cache):
    tight = {**QUICK, "training.max_memory_bytes": 2_300_000, "diagnosis.enabled": False, "training.images": 16}
    run_tiny(loaded(BY_NAME["translation"], **tight), tmp_path, cache)
    report = Report.load(tmp_path / "report.json")
    assert (report.effective["micro_batch"], report.effective["activations"]) == (1, "recomputed")


def test_what_fits_in_no_way_names_the_layer_and_what_would_fit(tmp_path, cache):
    tight = {**QUICK, "training.max_memory_bytes": 1_200_000, "diagnosis.enabled": False}
    with pytest.raises(DoesNotFit) as refused:
        run_tiny(loaded(BY_NAME["translation"], **tight), tmp_path, cache)
    assert refused.value.exit_code == 66
    assert "even 1 images at a time with recomputed activations take more than 1.2 MB" in refused.value.message
    assert "layer " in refused.value.message and "data.resolution 16" in (refused.value.hint or "")


def test_a_stylegan2_is_fitted_too(tmp_path, cache):
    tight = {**QUICK, "training.max_memory_bytes": 3_000_000, "training.images": 32, "diagnosis.enabled": False}
    run_tiny(loaded(BY_NAME["stylegan2"], **tight), tmp_path, cache)
    report = Report.load(tmp_path / "report.json")
    assert (report.accumulation, report.effective["micro_batch"]) == (4, 4)
