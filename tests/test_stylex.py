"""The recipe StylEx: its branches, its modes, and that how a batch is cut does not matter."""

import copy

import pytest
import torch

from jobs import recipes
from jobs.data import ImageBatch
from jobs.diagnosis.wiring import check_wiring
from jobs.errors import DataError, SpecError
from jobs.losses import slopes
from jobs.losses.reconstruction import activation_distance, classifier_kl, stretched
from jobs.networks.classifier import ImageClassifier
from jobs.spec import stylex_size
from jobs.spec.stylex import Classifier
from jobs.training.compiled import compile_in_place
from jobs.training.recipe import Known
from jobs.training.seeds import seed_step
from tests.tiny import Path, loaded
from tests.torchvision_on_cpu import declare

TINY = Path("tests/specs/stylex.yaml")
CPU = torch.device("cpu")
EXACT = {
    "recipe.generator.noise": {"mode": "off"},
    "recipe.discriminator.stddev_group": 1,
    "recipe.path_length.weight": 0,
    "recipe.optimizer.epsilon": 0.01,
}
"""Nothing random within a micro-batch, no statistic over it, and an Adam that does not divide rounding by rounding."""


def job(**changes):
    return loaded(TINY, **changes).job


def known(section, classes=2):
    torch.manual_seed(3)
    classifier = ImageClassifier(section.classifier, classes).eval().requires_grad_(False)
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def conditions(count, seed):
        return ImageBatch(images[(torch.arange(count) + seed) % len(images)], None)

    def distance(first, second):
        return activation_distance(classifier.activations(first), classifier.activations(second))

    return Known((128,) * classes, conditions, classifier, distance)


def build(spec, classes=2):
    return recipes.build(spec, known(spec.recipe, classes), "fp32", CPU)


def batch(count=16):
    image = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    return ImageBatch(image, torch.arange(count) % 2)


def gradients_of(recipe, images):
    """What each optimizer is given in the step at `images`, one flat vector an optimizer step."""
    given = {}

    def hook(name):
        def note(optimizer, *_):
            parts = [
                p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None
            ]
            given.setdefault(name, []).append(torch.cat(parts).clone())

        return note

    handles = [opt.register_step_pre_hook(hook(name)) for name, opt in recipe.optimizers.items()]
    seed_step(0, images)
    scalars = recipe.step(batch(), images)
    for handle in handles:
        handle.remove()
    return given, scalars


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, while it traces
@pytest.mark.parametrize("penalty", [{"kind": "r1", "interval": 1}, {"kind": "gradient_penalty", "interval": 1}])
def test_a_traced_step_is_the_plain_one(penalty, tmp_path, monkeypatch):
    torch.compiler.reset()
    changed = EXACT | {
        "recipe.penalty": penalty,
        "recipe.path_length": {"weight": 2.0, "interval": 1, "start_images": 0},
    }
    recipe, traced = (build(job(**changed)) for _ in range(2))
    plain, _ = gradients_of(recipe, 0)
    monkeypatch.setattr(slopes, "slope", None)
    compile_in_place(traced.hot, tmp_path, backend="aot_eager")
    found, _ = gradients_of(traced, 0)
    assert plain.keys() == found.keys()
    for name, vectors in plain.items():
        for one, other in zip(vectors, found[name], strict=True):
            assert (one - other).norm() <= 1e-4 * one.norm(), name


@pytest.mark.parametrize("mode", ["off", "own_step", "carry"])
@pytest.mark.parametrize("branch", ["noise", "encoder"])
def test_accumulation_gives_the_same_update(mode, branch):
    """1, 2 and 8 micro-batches of one batch: every gradient that any optimizer gets is equal to 1e-5."""
    found = []
    for micro_batch in (16, 8, 2):
        spec = job(
            **EXACT,
            **{
                "training.micro_batch": micro_batch,
                "recipe.kl_rec_during_disc": mode,
                "recipe.first_branch": branch,
                "recipe.mixing_probability": 0.9,
            },
        )
        found.append(gradients_of(build(spec), 0))
    (whole, said), *cut = found
    for gradients, scalars in cut:
        assert gradients.keys() == whole.keys() == ({"D", "G", "E"} if branch == "encoder" else {"D", "G"})
        for name, steps in gradients.items():
            for one, other in zip(steps, whole[name], strict=True):
                assert torch.linalg.vector_norm(one - other) < 1e-5 * torch.linalg.vector_norm(other)
        for name in said:
            assert float(scalars[name]) == pytest.approx(float(said[name]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("mode", ["off", "log_only", "own_step", "carry"])
@pytest.mark.parametrize("alternating", ["alternate", "encoder_only", "noise_only"])
def test_no_gradient_is_thrown_away_in_any_mode(mode, alternating):
    spec = job(**{"recipe.kl_rec_during_disc": mode, "recipe.alternating": alternating})
    assert check_wiring(lambda: build(spec), batch(), 16).verdict == "healthy"


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe.conditioning": {"source": "logits", "inject": "encoder", "discriminator": "none"}},
        {"recipe.conditioning": {"source": "none", "discriminator": "none"}},
        {
            "recipe.conditioning": {"discriminator": "projection"},
            "recipe.adversarial": {"kind": "hinge", "weight": 0.5},
        },
        {"recipe.penalty": {"kind": "gradient_penalty", "interval": 1}, "recipe.kl": {"direction": "rebuilt_to_input"}},
        {"recipe.reconstruction": {"w": 0, "perceptual": {"kind": "none"}}},
        {
            "recipe.reconstruction": {"perceptual": {"normalize": "per_image"}},
            "recipe.encoder": {"architecture": "skip"},
        },
    ],
)
def test_every_knob_makes_a_recipe_that_is_wired(changes):
    spec = job(**changes)
    assert check_wiring(lambda: build(spec), batch(), 16).verdict == "healthy"


def test_branches_take_turns_and_train_what_is_theirs():
    recipe = build(job(**{"recipe.path_length.weight": 0}))
    for iteration, trained in ((0, {"G", "D"}), (1, {"G", "D", "E"}), (2, {"G", "D"})):
        before = {name: [p.clone() for p in network.parameters()] for name, network in recipe.networks.items()}
        scalars = recipe.step(batch(), iteration * 16)
        moved = {
            name
            for name, network in recipe.networks.items()
            if any(not torch.equal(p, q) for p, q in zip(network.parameters(), before[name], strict=True))
        }
        assert moved == trained
        assert ("loss.reconstruction" in scalars) == ("E" in trained)


def test_the_discriminators_phase_does_what_its_mode_says():
    """Of one encoder step: off and log_only the same update; own_step one step more; carry twice the reconstruction."""
    steps = {}
    for mode in ("off", "log_only", "own_step", "carry"):
        spec = job(**EXACT, **{"recipe.kl_rec_during_disc": mode, "recipe.first_branch": "encoder",
                               "recipe.adversarial": {"weight": 0}})  # fmt: skip
        steps[mode], scalars = gradients_of(build(spec), 0)
        assert ("loss.kl_during_discriminator" in scalars) == (mode != "off")
    assert len(steps["off"]["E"]) == len(steps["log_only"]["E"]) == len(steps["carry"]["E"]) == 1
    assert len(steps["own_step"]["E"]) == len(steps["own_step"]["G"]) == 2
    torch.testing.assert_close(steps["log_only"]["E"][0], steps["off"]["E"][0])
    torch.testing.assert_close(steps["own_step"]["E"][0], steps["off"]["E"][0])
    torch.testing.assert_close(steps["carry"]["E"][0], 2 * steps["off"]["E"][0])


def test_alternation_doubles_what_it_halves():
    def gradient(**changes):
        spec = job(**EXACT, **{"recipe.adversarial": {"weight": 0}, "recipe.first_branch": "encoder", **changes})
        return gradients_of(build(spec), 0)[0]["E"][0]

    plain = gradient(**{"recipe.double_when_alternating": False})
    torch.testing.assert_close(gradient(), 2 * plain)


@pytest.mark.parametrize("mode", ["own_step", "carry"])
def test_parts_hold_all_that_a_resumed_run_needs(mode):
    """Three steps and a new recipe from the parts of the second: bit for bit the same; nothing waits between steps."""
    spec = job(**{"recipe.kl_rec_during_disc": mode})
    unbroken, resumed = build(spec), build(spec)
    for images in (0, 16, 32):
        if images == 32:
            for name, part in unbroken.parts.items():
                resumed.parts[name].load_state_dict(copy.deepcopy(part.state_dict()))
            seed_step(0, images)
            resumed.step(batch(), images)
        seed_step(0, images)
        unbroken.step(batch(), images)
    for name, network in {**unbroken.networks, "average": unbroken.average}.items():
        other = {**resumed.networks, "average": resumed.average}[name].state_dict()
        assert all(torch.equal(tensor, other[key]) for key, tensor in network.state_dict().items()), name
    assert torch.equal(unbroken.path_mean.value, resumed.path_mean.value)


def test_learning_rates_are_multiples_or_absolute():
    spec = job(**{"recipe.optimizer": {"learning_rate": 0.002}, "recipe.encoder": {"lr_multiplier": 0.05},
                  "recipe.discriminator": {"learning_rate": 0.5}})  # fmt: skip
    effective = build(spec).effective(0)
    assert effective["learning_rate.E"] == pytest.approx(1e-4)
    assert effective["learning_rate.D"] == pytest.approx(0.5 * 4 / 5)  # the correction of lazy regularisation
    assert loaded(TINY).job.recipe.encoder.learning_rate == 0.002


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"recipe.alternating": "encoder_only", "recipe.discriminator": {"architecture": "orig"}},
        {"recipe.alternating": "noise_only", "recipe.generator.architecture": "resnet"},
        {"recipe.conditioning": {"discriminator": "projection"}, "recipe.encoder": {"architecture": "skip"}},
        {
            "recipe.conditioning": {"inject": "encoder", "discriminator": "none"},
            "recipe.generator.noise": {"mode": "off"},
        },
        {"recipe.conditioning": {"source": "none", "discriminator": "none"}},
    ],
)
def test_the_plan_counts_parameters_exactly(classes, changes):
    spec = job(**changes)
    built = {
        name: sum(p.numel() for p in network.parameters()) for name, network in build(spec, classes).networks.items()
    }
    assert stylex_size.size(spec.recipe, classes).parameters == built


def test_what_was_learned_is_sampled_without_its_data_too():
    recipe = build(job())
    recipe.step(batch(), 0)
    other = recipes.build(job(), Known((1, 1)), "fp32", CPU)
    other.generator_ema.load_state_dict(recipe.generator_ema.state_dict())
    torch.testing.assert_close(other.sample(5, 1), recipe.sample(5, 1))
    image = batch(4).image_NCHW.float() / 127.5 - 1
    torch.testing.assert_close(other.paint(other.encode(image)), recipe.paint(recipe.encode(image)))
    only = recipes.build(job(**{"recipe.alternating": "encoder_only"}), Known((1, 1)), "fp32", CPU)
    with pytest.raises(DataError, match="of images, not of latents"):
        only.sample(2, 0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"recipe.data.labels": False}, "labels"),
        ({"recipe.conditioning": {"source": "none"}}, "tells the generator nothing"),
        ({"recipe.conditioning": {"inject": "encoder"}}, "made from latents know none"),
        ({"recipe.discriminator.stddev_group": 3}, "divisor"),
        ({"recipe.generator.injection": {"kind": "style_matrix"}}, "AttFind moves"),
        ({"recipe.generator.noise": {"start_images": 100}}, "from the first image on"),
        ({"recipe.generator.mapping": {"layers": 0}}, "at least one"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, says):
    with pytest.raises(SpecError, match=says):
        job(**changes)


# Losses


def test_the_divergence_is_that_of_the_definition_and_0_for_equal_answers():
    p, q = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = (p.softmax(1) * (p.softmax(1) / q.softmax(1)).log()).sum(1).mean()
    torch.testing.assert_close(classifier_kl(p, q), expected)
    assert float(classifier_kl(p, p + 3)) == pytest.approx(0, abs=1e-12)


def test_stretching_is_safe_on_flat_images_and_blind_to_brightness():
    image = torch.rand(2, 3, 8, 8)
    assert stretched(image).aminmax() == (-1, 1)
    torch.testing.assert_close(stretched(image * 0.5 + 0.2), stretched(image))
    flat = torch.full((1, 3, 8, 8), 0.3, requires_grad=True)
    out = stretched(flat)
    out.sum().backward()
    assert bool(torch.isfinite(out).all()) and bool(torch.isfinite(flat.grad).all())


def test_the_distance_of_activations_ignores_their_scale():
    maps = [torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]
    assert float(activation_distance(maps, [3 * x for x in maps])) == pytest.approx(0, abs=1e-6)
    opposite = activation_distance(maps, [-x for x in maps])
    assert float(opposite) == pytest.approx(4, rel=1e-4)  # |2 φ̂|², mean over two stages


# Classifiers


@pytest.mark.parametrize("architecture", ["small", "resnet18", "mobilenet_v2"])
def test_classifiers_give_logits_and_maps_with_gradients_to_the_image(architecture):
    section = Classifier(architecture=architecture, input_side=64 if architecture != "small" else None)
    classifier = ImageClassifier(section, 3).eval()
    for channels in (1, 3, 4):
        image = (torch.rand(2, channels, 32, 32) * 2 - 1).requires_grad_()
        logits = classifier(image)
        assert logits.shape == (2, 3)
        (gradient,) = torch.autograd.grad(logits.square().sum(), image)
        assert bool((gradient != 0).any())
    maps = classifier.activations(image.detach())
    assert len(maps) >= 4 and maps[0].shape[-1] > maps[-1].shape[-1]


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2"])
def test_published_classifiers_are_those_of_torchvision(architecture):
    declare()
    import torchvision

    theirs = getattr(torchvision.models, architecture)(weights=None, num_classes=3).eval()
    section = Classifier(architecture=architecture, normalize="imagenet")
    ours = ImageClassifier(section, 3).eval()
    ours.network.load_state_dict(theirs.state_dict())
    image = torch.rand(2, 3, 64, 64)
    mean, deviation = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(ours(image * 2 - 1), theirs((image - mean) / deviation), rtol=1e-3, atol=1e-4)
