"""What the variants of StyleGAN2 promise as a whole: who learns, where styles are cut, what is refused."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jobs import recipes
from jobs.data import ImageBatch
from jobs.diagnosis.wiring import check_wiring
from jobs.errors import SpecError
from jobs.events import read_events
from jobs.losses.path_length import PathLengthPenalty
from jobs.losses.penalties import on_noise
from jobs.losses.slopes import slope
from jobs.networks.generator import StyleGenerator
from jobs.networks.precision import Precision
from jobs.networks.synthesis import Synthesis
from jobs.spec import load_any_file, stylegan2_size
from jobs.spec.stylegan2 import Generator, PathLength
from jobs.systems.stylegan2 import StyleGAN2System
from jobs.training.recipe import Known
from jobs.training.seeds import seed_step
from tests.test_injection import EVERY
from tests.test_networks import FP32, shape
from tests.tiny import loaded, run_tiny

BATCH = 8
FOLDER = {"kind": "folder", "path": "x", "resolution": 32, "labels": True}
QUICK = {"training.batch": BATCH, "training.micro_batch": BATCH, "recipe.generator.noise.strength_init": 0.1}
TO_RGB = [
    {"present": present, "injected": injected}
    for present, injected in itertools.product(("all", "last", "none"), ("all", "last", "all_but_last", "none"))
]


def build(**changes):
    job = loaded(**{**QUICK, **changes}).job
    return recipes.build(job, Known(), "fp32", torch.device("cpu"))


def steps(recipe, count, start=0):
    image = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for index in range(start, start + count):
        seed_step(0, index * BATCH)
        recipe.step(ImageBatch(image, None), index * BATCH)


def learns_everywhere(recipe) -> None:
    """Every parameter is in exactly one optimizer, and none is where it began after ten steps."""
    parameters = {f"{name}.{path}": p for name, network in recipe.networks.items()
                  for path, p in network.named_parameters()}  # fmt: skip
    held = [
        id(p) for optimizer in recipe.optimizers.values() for group in optimizer.param_groups for p in group["params"]
    ]
    assert sorted(held) == sorted(id(p) for p in parameters.values())
    before = {path: p.detach().clone() for path, p in parameters.items()}
    steps(recipe, 10)
    assert [path for path, p in parameters.items() if torch.equal(p, before[path])] == []


@pytest.mark.parametrize("injection", EVERY, ids=str)
def test_every_parameter_is_in_one_optimizer_and_moves_within_ten_steps(injection):
    injection = {**injection, "k": min(injection["k"], 16)} if "k" in injection else injection
    learns_everywhere(build(**{"recipe.generator.injection": injection}))


@pytest.mark.parametrize("to_rgb", TO_RGB, ids=lambda to_rgb: "-".join(to_rgb.values()))
@pytest.mark.parametrize("architecture", ["resnet", "orig"])
def test_every_to_rgb_variant_learns_and_is_counted(to_rgb, architecture):
    changes = {"recipe.generator.to_rgb": to_rgb, "recipe.generator.architecture": architecture}
    job = loaded(**{**QUICK, **changes}).job
    recipe = recipes.build(job, Known(), "fp32", torch.device("cpu"))
    built = {name: sum(p.numel() for p in network.parameters()) for name, network in recipe.networks.items()}
    assert stylegan2_size.size(job.recipe).parameters == built
    image = recipe.sample(2, 0)
    assert image.shape == (2, 3, 32, 32)
    if architecture == "resnet":
        return
    learns_everywhere(recipe)


@pytest.mark.parametrize("injection", EVERY, ids=str)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("layers", [0, 2])
def test_the_plan_counts_the_parameters_of_every_injection(injection, frozen, layers):
    injection = {**injection, "k": min(injection["k"], 16)} if "k" in injection else injection
    mapping = {"layers": layers, "frozen": frozen}
    job = loaded(**{"recipe.generator.injection": injection, "recipe.generator.mapping": mapping}).job
    recipe = recipes.build(job, Known(), "fp32", torch.device("cpu"))
    built = {name: sum(p.numel() for p in network.parameters()) for name, network in recipe.networks.items()}
    assert stylegan2_size.size(job.recipe).parameters == built


def test_a_frozen_mapper_does_not_move_and_neither_does_its_average():
    recipe = build(**{"recipe.generator.mapping": {"frozen": True}, "recipe.path_length": {"weight": 2, "interval": 2}})
    networks = {"G": recipe.G.mapping, "G_ema": recipe.G_ema.mapping}
    before = {name: {k: v.clone() for k, v in m.state_dict().items()} for name, m in networks.items()}
    steps(recipe, 10)
    for name, module in networks.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, before[name][key]) == (key != "w_average"), (name, key)
    assert any(key.startswith("layers.0") for key in before["G"])
    assert not any(True for _ in recipe.G.mapping.parameters())


def test_the_identity_hands_latents_through():
    recipe = build(**{"recipe.generator.mapping": {"layers": 0, "normalize_z": False}})
    z = recipe.G.latents(3, torch.device("cpu"))
    assert torch.equal(recipe.G.mapping(z), z)
    steps(recipe, 3)  # path lengths too, though nothing made w


def test_noise_starts_when_it_should_and_learns_only_from_then_on():
    start = 6 * BATCH
    recipe = build(**{"recipe.generator.noise": {"start_images": start, "strength_init": 0.5, "lr_multiplier": 0.5}})
    strengths = [noise.strength for noise in recipe.G.synthesis.noise_inputs()]
    began = [s.detach().clone() for s in strengths]
    assert began[0].item() == pytest.approx(1.0)  # stored / multiplier
    z = recipe.G.latents(1, torch.device("cpu"))

    def differs() -> bool:
        return not torch.equal(recipe.G_ema(z), recipe.G_ema(z))

    steps(recipe, 6)
    assert all(torch.equal(s, b) for s, b in zip(strengths, began, strict=True)) and not differs()
    assert recipe.late(0) and not recipe.late(start)
    steps(recipe, 1, start=6)
    assert not any(torch.equal(s, b) for s, b in zip(strengths, began, strict=True)) and differs()


@pytest.mark.parametrize(
    ("noise", "varies"),
    [({"mode": "off"}, False), ({"mode": "constant", "strength_init": 1}, False),
     ({"mode": "random", "strength": "fixed", "strength_init": 1}, True)],
)  # fmt: skip
def test_noise_modes(noise, varies):
    recipe = build(**{"recipe.generator.noise": noise})
    z = recipe.G.latents(1, torch.device("cpu"))
    assert torch.equal(recipe.G(z), recipe.G(z)) != varies
    silent = recipe.G.synthesis(recipe.G.to_every_layer(recipe.G.mapping(z)), noise_scale=0.0)
    assert torch.equal(recipe.G(z), silent) == (noise["mode"] == "off")
    steps(recipe, 2)
    if noise.get("strength") == "fixed":
        assert {n.strength.item() for n in recipe.G.synthesis.noise_inputs()} == {1.0}


def generator(k: int, resolution: int = 32) -> StyleGenerator:
    section = shape(injection={"kind": "style_matrix", "k": k}) if k > 1 else shape()
    return StyleGenerator(section, resolution, 3, 0, Precision("fp32", resolution))


def unmixed(network: StyleGenerator, seed: int, **mixing) -> Tensor:
    """Which rows of two images' styles are still those of the first latent, [2, L·K]."""
    torch.manual_seed(seed)
    w, styles = network.styles(2, None, torch.device("cpu"), **mixing)
    return (styles == network.to_every_layer(w)).all(dim=2)


@given(k=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_the_mixing_cut_never_falls_inside_a_group(k, seed):
    network = generator(k)
    rows = network.synthesis.styles * k
    kept = unmixed(network, seed, mixing=1.0, align_to_k=True)
    cut = int(kept[0].sum())
    assert cut % k == 0 and k <= cut < rows and torch.equal(kept[0], kept[1])
    assert kept[0, :cut].all() and not kept[0, cut:].any()


def test_a_cut_that_is_not_aligned_falls_anywhere_and_probability_zero_nowhere():
    network = generator(4)
    kept = [unmixed(network, seed, mixing=1.0, align_to_k=False) for seed in range(200)]
    assert {int(kept_NL[0].sum()) for kept_NL in kept} == set(range(1, network.synthesis.styles * 4))
    assert unmixed(network, 0, mixing=0.0, align_to_k=True).all()


def test_layers_own_their_rows():
    """Only the rows l·K ... (l + 1)·K - 1 reach layer l."""
    torch.manual_seed(0)
    network = generator(4).synthesis
    w = torch.randn(1, network.styles * 4, 4, requires_grad=True)
    seen = []
    hook = network.blocks[1].conv0.register_forward_pre_hook(lambda _m, args: seen.append(args[1]))
    network(w)
    hook.remove()
    assert torch.equal(seen[0], w[:, 4:8])  # the second layer's


def test_training_on_w_plus_gives_every_layer_a_w_of_its_own():
    recipe = build(**{"recipe.w_plus_probability": 1.0, "recipe.generator.injection": {"kind": "style_matrix", "k": 2}})
    layers = recipe.G.synthesis.styles
    w = recipe._styles(5, None).unflatten(1, (layers, 2))
    assert len({tuple(row.tolist()) for row in w[0, :, 0]}) == layers
    together = build(**{"recipe.mixing_probability": 0.0})._styles(5, None)
    assert torch.equal(together, together[:, :1].expand_as(together))
    half = build(**{"recipe.mixing_probability": 0.0, "recipe.w_plus_probability": 0.5})._styles(400, None)
    own = (half != half[:, :1]).any(dim=2).any(dim=1).float().mean().item()
    assert own == pytest.approx(0.5, abs=0.1)


def test_both_reductions_of_path_lengths_differ_by_the_root_of_k():
    torch.manual_seed(0)
    w = torch.randn(4, 12, 5)
    matrix = torch.randn(5, 48)
    gradient = slope(lambda w: on_noise((w.sum(dim=1) @ matrix).square().reshape(4, 3, 4, 4)), w)
    lengths = []
    for reduce in ("mean_over_slots", "sum_over_k"):
        lengths.append(PathLengthPenalty(PathLength(reduce=reduce), vectors=3)(gradient)[1])
    torch.testing.assert_close(lengths[1], lengths[0] * 3**0.5)


def test_the_number_of_layers_with_a_w_is_the_original_one():
    for resolution, layers in ((4, 2), (8, 4), (32, 8), (1024, 18)):
        section = Generator(channels_base=4, channels_max=1, to_rgb={"present": "all"})
        assert Synthesis(section, resolution, 3, FP32).styles == layers


@pytest.mark.parametrize(
    "section", [{"kind": "diffaugment"}, {"kind": "ada", "p": 0.5, "interval": 1, "rise_images": 100}]
)
def test_an_augmented_recipe_is_wired(section):
    changes = {"recipe.augmentation": section}
    image = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8)
    finding = check_wiring(lambda: build(**changes), ImageBatch(image, None), BATCH)
    assert finding.verdict == "healthy"
    recipe = build(**changes)
    steps(recipe, 2)
    assert (recipe.effective(0).get("augmentation.p", 0.5) != 0.5) == (section["kind"] == "ada")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe.generator.injection": {"kind": "adain_sg2", "demod_on": "style"}}, "is no matrix"),
        ({"recipe.generator.injection": {"kind": "style_matrix", "k": 3}}, r"injection\.k: .* 3 must divide"),
        ({"recipe.generator.injection": {"kind": "style_matrix", "baked": False, "fused": True}}, "only baked: true"),
        ({"recipe.generator.injection": {"kind": "adaconv", "group_channels": 3}}, "do not divide the 16 maps"),
        ({"recipe.discriminator.stddev_group": 16}, r"stddev_group: a micro-batch of 8 cannot be cut into group"),
        ({"training.micro_batch": 1, "recipe.discriminator.stddev_group": 1}, r"path_length\.batch_shrink: .* is none"),
        ({"recipe.generator.mapping": {"layers": 0}, "recipe.generator.style": 8}, "give both one size"),
        ({"recipe.generator.mapping": {"layers": 0}, "recipe.conditional": True, "recipe.data.labels": True},
         "no place"),
        ({"recipe.generator.noise": {"strength": "fixed"}}, "there is no noise"),
    ],
)  # fmt: skip
def test_combinations_that_cannot_work_are_refused_with_the_reason(changes, message):
    with pytest.raises(SpecError, match=message):
        loaded(**changes)


def test_what_k_and_to_rgb_become_is_said():
    spec = loaded(**{"recipe.generator.injection": {"kind": "style_matrix"}})
    derived = {value.path: value for value in spec.derived}
    assert derived["recipe.generator.injection.k"].value == 16 == spec.job.recipe.generator.injection.k
    assert derived["recipe.generator.to_rgb.present"].value == "all"


def test_a_check_logs_what_styles_decide_colours_detail_and_modes(tmp_path):
    out = tmp_path / "run"
    run_tiny(loaded(**{**QUICK, "training.images": 64, "evaluation.sanity": False}), out, tmp_path / "cache")
    said = [event["statistics"] for event in read_events(out / "events.jsonl") if event["event"] == "statistics"]
    logged = next(values for values in said if "style_share" in values)
    assert logged["style_share"] == pytest.approx(logged["style_ignored"])
    assert logged["spectrum_gap"] == pytest.approx(logged["spectrum"])
    assert logged["hue_variance"] / logged["hue_variance.real"] == pytest.approx(logged["hue_collapse"])
    assert 0 <= logged["modes_covered"] <= 4 and 0 <= logged["mode_precision"] <= 1
    assert logged["noise_strength"] == pytest.approx(0.1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted(Path("jobs/examples/stylegan2-laboratory").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_variant_of_every_study_takes_a_step(path):
    study = load_any_file(path)
    for variant in study.variants:
        job = variant.loaded.job
        precision = "fp32" if job.training.precision == "auto" else job.training.precision
        recipe = recipes.build(job, Known(), precision, torch.device("cpu"))
        channels, side = (1 if job.recipe.data.channels == "grey" else 3), job.recipe.data.resolution
        image = torch.randint(0, 256, (job.training.batch, channels, side, side), dtype=torch.uint8)
        scalars = recipe.step(ImageBatch(image, None), 0)
        assert all(torch.isfinite(value) for value in scalars.values()), variant.name
        assert recipe.sample(2, 0).shape == (2, channels, side, side)


def test_classes_are_counted_by_the_nearest_image_of_the_data():
    image_NCHW = np.repeat(np.array([0, 80, 160, 240], np.uint8), 5)[:, None, None, None].repeat(4, 2).repeat(4, 3)
    dataset = SimpleNamespace(images_NCHW=image_NCHW, labels_N=np.repeat(np.arange(4), 5))
    drawn = torch.tensor([-1.0] * 50 + [0.3] * 49 + [0.9])[:, None, None, None].expand(-1, 1, 4, 4)  # 0, 166, 242
    around = SimpleNamespace(dataset=dataset, recipe=SimpleNamespace(sample=lambda count, seed: drawn),
                             job=loaded(**{"evaluation.samples": 100, "recipe.data": FOLDER}).job)  # fmt: skip
    (row,) = StyleGAN2System(around)._class_rows(0, "")
    assert row["value"] == 2 and row["metric"] == "classes_covered"  # 1 % is less than a tenth of a quarter
    around.dataset.labels_N = None
    assert not StyleGAN2System(around)._class_rows(0, "")
