"""A talking face: the gradients of its parts, what each discriminator sees, its schedules, the size of its networks."""

import copy
import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from jobs import recipes
from jobs.data import Roots, batches, open_data
from jobs.errors import DataError, SpecError
from jobs.networks.talking import generator_of, judge_of
from jobs.spec import load, load_file, outlook, warnings
from jobs.spec.size import size
from jobs.spec.talking_face import ADVERSARIES, TERMS
from jobs.training.recipe import Known
from tests.tiny import loaded

TINY = Path("tests/specs/talking_face.yaml")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_data(loaded(TINY).job.recipe.data, cache_dir=tmp_path_factory.mktemp("cache"), roots=Roots(Path()))


def built(dataset, precision="fp32", **changes):
    return recipes.build(loaded(TINY, **changes).job, Known((), dataset.conditions), precision, CPU)


def first_batch(dataset, count=8):
    stream = batches(dataset, batch=count, seed=0, images=0, mirror=False)
    batch = next(stream)
    stream.close()
    return batch


def kept_gradients(recipe, batch):
    """The gradients of one step by network, the weights held still."""
    found = {}
    for name, optimizer in recipe.optimizers.items():
        parameters = list(recipe.networks[name].parameters())

        def step(name=name, parameters=parameters):
            found[name] = [p.grad.clone() if p.grad is not None else None for p in parameters]

        optimizer.step = step
    torch.manual_seed(5)
    recipe.step(batch, 0)
    return found


@pytest.mark.parametrize(
    "extra", [{}, {"recipe.labels.real": [0.8, 1.0], "recipe.generator.noise.kind": "independent"}]
)
def test_accumulation_4_x_1_equals_batch_4(dataset, extra):
    batch = first_batch(dataset, 4)
    same = {"recipe.generator.norm": "none", "recipe.weights.l1": 1.0}
    found = [
        kept_gradients(built(dataset, **same, **{"training.batch": 4, "training.micro_batch": micro, **extra}), batch)
        for micro in (4, 1)
    ]
    assert found[0].keys() == {"G", *ADVERSARIES}
    for name in found[0]:
        for one, other in zip(found[0][name], found[1][name], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_discriminator_never_uses_gradients_of_the_generator(dataset):
    """Its gradient is the one of its own loss on the same frames; the generator's weights are without any."""
    recipe = built(dataset)
    batch = first_batch(dataset)
    frozen = copy.deepcopy(recipe)
    found = kept_gradients(recipe, batch)
    torch.manual_seed(5)
    pieces = list(frozen.pieces(batch, 8))
    for name in ADVERSARIES:
        frozen._learns(frozen.adversaries[name])
        with torch.no_grad():
            fakes = [frozen.G(p.still_NCHW, p.audio_NTCK, p.draw_NTZ) for p in pieces]
        for piece, fake in zip(pieces, fakes, strict=True):
            real, *refused = frozen.verdicts(name, piece, fake)
            bce = nn.functional.binary_cross_entropy_with_logits
            loss = bce(real, torch.ones_like(real)) + sum(bce(x, torch.zeros_like(x)) for x in refused) / len(refused)
            (loss / 2 / len(pieces)).backward()
        for parameter, got in zip(frozen.adversaries[name].parameters(), found[name], strict=True):
            torch.testing.assert_close(parameter.grad, got, atol=1e-6, rtol=1e-4)
        assert all(parameter.grad is None for parameter in frozen.G.parameters())


def test_the_generator_leaves_discriminators_without_gradients_and_shares_sum_to_one(dataset):
    recipe = built(dataset)
    recipe._teach_judge = lambda *_: {}
    scalars = recipe.step(first_batch(dataset), 0)
    for name in ADVERSARIES:
        assert all(parameter.grad is None for parameter in recipe.adversaries[name].parameters())
    assert sum(float(scalars[f"share.{term}"]) for term in TERMS) == pytest.approx(1.0)


def test_a_term_of_weight_zero_has_no_share_to_be_drowned(dataset):
    recipe = built(dataset, **{"recipe.weights.l1": 0.0})
    scalars = recipe.step(first_batch(dataset), 0)
    assert "share.l1" not in scalars
    assert sum(value for name, value in scalars.items() if name.startswith("share.")) == pytest.approx(1.0)


def test_the_gradient_of_the_sum_is_the_sum_of_the_gradients(dataset):
    """Collected at the frames or by one backward pass over the weighted sum: the same for every weight."""
    recipe = built(dataset)
    batch = first_batch(dataset)
    frozen = copy.deepcopy(recipe)
    found = kept_gradients(recipe, batch)["G"]
    torch.manual_seed(5)
    pieces = list(frozen.pieces(batch, 8))
    frozen._learns(frozen.G)
    for piece in pieces:
        fake = frozen.G(piece.still_NCHW, piece.audio_NTCK, piece.draw_NTZ)
        terms = [getattr(frozen.section.weights, term) * frozen._term(term, fake, piece) for term in TERMS]
        (sum(terms) / len(pieces)).backward()
    for parameter, got in zip(frozen.G.parameters(), found, strict=True):
        torch.testing.assert_close(parameter.grad, got, atol=1e-4, rtol=1e-3)


def test_buffers_hold_exactly_the_frames_of_the_batch(dataset):
    recipe = built(dataset)
    for images in (0, 16):
        pieces = list(recipe.pieces(first_batch(dataset, 16), 8))
        _, fakes = recipe._teach_generator(pieces, TERMS)
        assert sum(fake.shape[0] * fake.shape[1] for fake in fakes) == 16 * 4, images
        assert not any(fake.requires_grad for fake in fakes)


@pytest.mark.parametrize(("negatives", "count"), [("fake", 2), ("misaligned", 2), ("both", 3)])
def test_sync_is_shown_the_negatives_that_are_asked_for(dataset, negatives, count):
    recipe = built(dataset, **{"recipe.discriminators.sync.negatives": negatives})
    (piece, *_) = recipe.pieces(first_batch(dataset), 8)
    fake = torch.zeros_like(piece.video_NTCHW)
    verdicts = recipe.verdicts("sync", piece, fake)
    assert len(verdicts) == count
    assert not torch.equal(verdicts[0], verdicts[-1])


def separable(name, piece):
    """A pair that anything that looks (and `sync`: listens) can tell apart."""
    return torch.ones_like(piece.video_NTCHW) if name != "sync" else piece.video_NTCHW


VARIANTS = [
    ("identity", {"identity.architecture": "patch", "identity.ndf": 4, "identity.n_layers": 2}),
    ("identity", {"identity.norm": "instance"}),
    ("sequence", {"sequence.architecture": "conv_gru"}),
    ("sequence", {"sequence.architecture": "gru", "sequence.frames": 2}),
    ("sequence", {"sequence.architecture": "gru_head", "sequence.region": "upper"}),
    ("sequence", {"sequence.architecture": "conv3d", "sequence.previous": "real", "sequence.frames": 3}),
    ("sync", {"sync.head": "concat", "sync.frames": 1}),
    ("sync", {"sync.head": "distance", "sync.region": "full"}),
    ("sync", {"sync.head": "cosine", "sync.norm": "batch"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_every_discriminator_learns_a_pair_that_can_be_told_apart(dataset, name, changes):
    dotted = {f"recipe.discriminators.{key}": value for key, value in changes.items()}
    recipe = built(dataset, **dotted, **{f"recipe.discriminators.{name}.learning_rate": 0.01})
    (piece, *_) = recipe.pieces(first_batch(dataset), 8)
    losses = [float(recipe._teach_judge(name, [piece], [separable(name, piece)])[f"loss.{name}"])
              for _ in range(30)]  # fmt: skip
    bound = 0.313 if changes.get("sequence.architecture") == "gru" else 0.0
    assert bound <= losses[-1] < losses[0] - 0.02


def test_a_frozen_expert_learns_first_and_counts_later(dataset):
    recipe = built(dataset, **{"recipe.discriminators.sync.expert_images": 32})
    assert recipe.section.discriminators.sync.negatives == "misaligned"
    early = recipe.step(first_batch(dataset), 0)
    assert "loss.sync" in early and "loss.generator.sync" not in early
    before = copy.deepcopy(recipe.adversaries["sync"].state_dict())
    late = recipe.step(first_batch(dataset), 32)
    assert "loss.sync" not in late and "loss.generator.sync" in late
    assert all(torch.equal(before[key], value) for key, value in recipe.adversaries["sync"].state_dict().items())
    assert recipe.resting(0) == frozenset() and recipe.resting(32) == {"sync"}


def test_stages_start_and_stop_terms_and_their_discriminators(dataset):
    recipe = built(dataset, **{"recipe.stages": {"identity": {"start_images": 32}, "l1": {"stop_images": 64}}})
    assert recipe.resting(0) == {"identity"}
    assert "loss.generator.identity" not in recipe.step(first_batch(dataset), 0)
    scalars = recipe.step(first_batch(dataset), 64)
    assert "loss.generator.identity" in scalars and "loss.generator.l1" not in scalars and "loss.identity" in scalars


def test_decay_says_which_kind_it_is_and_where_it_ends(dataset):
    decay = {"recipe.decay": {"multiplier": 0.1, "every_images": 64, "until_images": 128, "networks": ["generator"]}}
    recipe = built(dataset, **decay)
    rates = []
    for images in (0, 64, 128, 192):
        recipe._set_rates(images)
        rates.append((recipe.optimizers["G"].param_groups[0]["lr"], recipe.optimizers["sync"].param_groups[0]["lr"]))
    assert [rate for rate, _ in rates] == pytest.approx([1e-4, 1e-5, 1e-6, 1e-6])
    assert {rate for _, rate in rates} == {1e-5}
    job = loaded(TINY, **decay).job
    assert any("generator 0.0001 to 1e-06" in sentence for sentence in outlook(job))
    assert any("fraction: 0.1" in sentence for sentence in warnings(job))
    for wrong in ({"every_images": 4}, {"every_images": 4, "fraction": 0.1, "multiplier": 0.9}):
        with pytest.raises(SpecError, match="either fraction"):
            loaded(TINY, **{"recipe.decay": wrong})


def test_half_precision_steps_with_one_scaler_or_one_each(dataset):
    for scalers, count in (("one", 1), ("each", 4)):
        recipe = built(dataset, "fp16", **{"recipe.optimizer.scalers": scalers})
        assert len(recipe.scalers) == count and set(recipe.scalers) <= set(recipe.parts)
        before = copy.deepcopy(recipe.G.state_dict())
        for step in range(8):
            scalars = recipe.step(first_batch(dataset), 16 * step)
            assert all(bool(value.isfinite()) for value in scalars.values())
        assert any(not torch.equal(before[key], value) for key, value in recipe.G.state_dict().items())


def test_pictures_are_a_function_of_the_seed_and_need_conditions(dataset):
    recipe = built(dataset)
    assert recipe.sample(3, 1).shape == (3, 1, 32, 32) and recipe.show(6, 1).shape == (6, 1, 32, 32)
    assert torch.equal(recipe.sample(3, 1), recipe.sample(3, 1))
    film = recipe.film(dataset.whole(dataset.held_out[0]), 0)
    assert film.shape == (25, 1, 32, 32)
    alone = recipes.build(loaded(TINY).job, Known(), "fp32", CPU)
    with pytest.raises(DataError) as caught:
        alone.sample(1, 0)
    assert "gankiln animate" in str(caught.value.hint)


def test_l1_regions():
    job = {"recipe.weights.l1": 1.0}
    top, bottom = torch.zeros(1, 1, 1, 4, 4), torch.zeros(1, 1, 1, 4, 4)
    top[..., :2, :], bottom[..., 2:, :] = 1.0, 1.0
    expected = {"full": (0.5, 0.5), "lower": (0.0, 1.0), "weighted": (0.2, 0.8)}
    for region, (upper, lower) in expected.items():
        recipe = recipes.build(loaded(TINY, **job, **{"recipe.l1.region": region}).job, Known(), "fp32", CPU)
        zero = torch.zeros_like(top)
        assert float(recipe._unlikeness(top, zero)) == pytest.approx(upper)
        assert float(recipe._unlikeness(bottom, zero)) == pytest.approx(lower)


# Sizes and specs


SHAPES = [
    {},
    {"recipe.data.channels": "rgb", "recipe.generator.norm": "batch"},
    {"recipe.data.audio.feature": "raw", "recipe.generator.norm": "batch", "recipe.generator.audio.gru_layers": 2},
    {"recipe.data.audio.feature": "raw", "recipe.data.fps": 24, "recipe.generator.noise.kind": "none"},
    {"recipe.generator.architecture": "unpadded_unet", "recipe.generator.enc_chs": [4, 8]},
    {"recipe.generator.architecture": "unpadded_unet", "recipe.data.resolution": 64, "recipe.generator.norm": "batch"},
    *({f"recipe.discriminators.{key}": value for key, value in changes.items()} for _, changes in VARIANTS),
]  # fmt: skip


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_sizes_are_those_of_the_networks(changes):
    job = loaded(TINY, **changes).job
    section = job.recipe
    networks = {"G": generator_of(section), **{name: judge_of(section, name) for name in ADVERSARIES}}
    assert size(job).parameters == {n: sum(p.numel() for p in net.parameters()) for n, net in networks.items()}
    still = torch.zeros(
        2, 1 if section.data.channels == "grey" else 3, section.data.resolution, section.data.resolution
    )
    noise = torch.zeros(2, 3, section.generator.noise.size)
    video = networks["G"](still, torch.zeros(2, 3, *section.data.audio_shape), noise)
    assert video.shape == (2, 3, *still.shape[1:])


def test_the_notes_keys_give_the_notes_network():
    """enc_chs 64 ... 1024 at 256 pixels: 8 x 8 at the bottom, 1026 channels with a map of sound and one of noise."""
    spec = yaml.safe_load(TINY.read_text())
    spec["recipe"] |= {"preset": "unpadded_unet", "generator": {}}
    spec["recipe"]["data"] = {"kind": "talkingcartoon", "resolution": 128}
    recipe = load(yaml.safe_dump(spec), "s").job.recipe
    assert recipe.generator.enc_chs == (64, 128, 256, 512) and recipe.generator.up_chs == (514, 256, 128, 64)
    assert recipe.generator.dec_chs == (512, 256, 128, 64)
    from jobs.spec.talking_face_size import unet_sides

    assert unet_sides(256, 5)[-1] == 8 and unet_sides(32, 4) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe.generator.architecture": "unpadded_unet", "recipe.generator.enc_chs": [4, 8, 16, 32]},
         "leave nothing"),
        ({"recipe.generator.architecture": "unpadded_unet", "recipe.generator.enc_chs": [4, 8],
          "recipe.generator.up_chs": [8, 4], "recipe.generator.dec_chs": [8, 4]}, "the maps of sound and noise are 10"),
        ({"recipe.generator.enc_chs": [4, 8], "recipe.generator.architecture": "per_frame"}, "keys of architecture"),
        ({"recipe.discriminators.sync.frames": 9}, "9 frames do not fit into a window of 4"),
        ({"recipe.discriminators.identity.chs": [4, 4, 4, 4, 1]}, "leave nothing of 32 pixels"),
        ({"recipe.discriminators.identity.chs": [4, 4]}, "makes the logit"),
        ({"recipe.labels": {"real": 0.5, "fake": [0.0, 0.6]}}, "must be apart"),
        ({"recipe.discriminators.sync": {"expert_images": 8, "negatives": "both"}}, "never sees generated frames"),
        ({"recipe.stages": {"l1": {"start_images": 9, "stop_images": 3}}}, "before it starts"),
        ({"recipe.weights": {"l1": 0, "identity": 0, "sequence": 0, "sync": 0}}, "nothing to learn from"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_reason(changes, said):
    with pytest.raises(SpecError, match=said):
        loaded(TINY, **changes)


def test_what_was_regretted_is_warned_of():
    regretted = {
        "recipe.discriminators.sync.negatives": "fake", "recipe.discriminators.sync.norm": "batch",
        "recipe.discriminators.sequence.architecture": "gru", "recipe.generator.audio.activation": "leaky",
        "recipe.weights.l1": 0.0,
    }  # fmt: skip
    said = " ".join(warnings(loaded(TINY, **regretted).job))
    for word in ("without listening", "1e-9", "0.313", "audio encoder", "black"):
        assert word in said
    assert not list(warnings(loaded(TINY).job))


NOTES = """
{"disc": {"sync_disc": {"in_channels": 1, "lr": 100e-5},
          "sequence_disc": {"in_channels": 1, "in_size": 65536, "h_size": 100, "num_layers": 1, "lr": 100e-5},
          "identity_disc": {"in_channels": 1, "chs": [16, 32, 1], "lr": 1e-4}},
 "gen": {"device": "cpu", "in_channels": 1, "enc_chs": [64, 128, 256, 512, 1024], "dec_chs": [1024, 512, 256, 128, 64],
         "up_chs": [1026, 512, 256, 128, 64], "img_dim": [256, 256], "retain_dim": true, "lr": 1e-4},
 "scales": {"lambda_seq_disc": 0.6, "lambda_sync_disc": 1.6, "lambda_id_disc": 1, "lambda_L1": 600}}
"""


def test_the_example_says_what_the_notes_json_says():
    job = load_file(Path("jobs/examples/talking-face-notes.yaml")).job
    told, recipe = json.loads(NOTES), job.recipe
    disc, gen, scales = told["disc"], told["gen"], told["scales"]
    assert recipe.data.channels == "grey" and [recipe.data.resolution] * 2 == gen["img_dim"]
    assert recipe.data.resolution**2 == disc["sequence_disc"]["in_size"]
    for key in ("enc_chs", "dec_chs", "up_chs"):
        assert list(getattr(recipe.generator, key)) == gen[key]
    assert recipe.generator.retain_dim is gen["retain_dim"]
    judges = recipe.discriminators
    assert list(judges.identity.chs) == disc["identity_disc"]["chs"]
    assert judges.sequence.h_size == disc["sequence_disc"]["h_size"]
    assert judges.sequence.num_layers == disc["sequence_disc"]["num_layers"]
    for name in ADVERSARIES:
        assert getattr(judges, name).learning_rate == disc[f"{name}_disc"]["lr"]
    assert recipe.optimizer.learning_rate == gen["lr"] and job.training.device == gen["device"]
    found = {"lambda_seq_disc": recipe.weights.sequence, "lambda_sync_disc": recipe.weights.sync,
             "lambda_id_disc": recipe.weights.identity, "lambda_L1": recipe.weights.l1}  # fmt: skip
    assert found == scales
    assert len(list(warnings(job))) == 2  # without misaligned sound; logits within (-1, 1)
