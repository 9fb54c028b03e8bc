"""The recipe: exact resume in every phase, its wiring, its tricks on labels and pictures."""

import copy

import numpy as np
import pytest
import torch

from jobs.data import Roots, open_data
from jobs.data.dataset import Shown
from jobs.diagnosis.wiring import Miswired, check_wiring
from jobs.losses.critic import critic_loss, relabelled
from jobs.recipes.sketch import Sketch
from jobs.spec.job import Job
from jobs.spec.resolve import resolve
from jobs.training.recipe import Known
from jobs.training.seeds import seed_step

DATA = {"kind": "toybirds", "part": "eye", "partial": "others", "resolution": 16, "drawings": 48}
TINY = {
    "kind": "sketch",
    "data": DATA,
    "growth": {"kind": "phases", "stabilise": 16, "fade": 32, "hold": 16},
    "encoder": {"channels": 4, "channels_max": 8},
    "latent": {"size": 4, "style": 8},
    "generator": {"channels_max": 8},
    "discriminator": {"channels_max": 8, "dense": 8},
}
BATCH = 8


def job(**recipe):
    section = {**TINY, **recipe}
    training = {"images": 160, "batch": BATCH, "precision": "fp32"}
    return resolve(Job.model_validate({"name": "tiny", "recipe": section, "training": training}))[0]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return open_data(job().recipe.data, cache_dir=cache, roots=Roots(cache))


def built(made, dataset):
    return Sketch(made, Known((), dataset.conditions), "fp32", torch.device("cpu"))


def batch(dataset, images, count=BATCH):
    position = np.arange(images, images + count)
    return dataset.gather(Shown(0, position, position % len(dataset), np.zeros(count, bool)))


def train(recipe, dataset, start, stop):
    scalars = {}
    for images in range(start, stop, BATCH):
        seed_step(0, images)
        scalars = recipe.step(batch(dataset, images), images)
    return scalars


def states(recipe):
    return {name: copy.deepcopy(part.state_dict()) for name, part in recipe.parts.items()}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


NOISY = {
    "selector": {"channels": 4},
    "label_noise": {"kind": "flip_real", "amount": {"start": 0.2}},
    "instance_noise": {"applies_to": "both", "deviation": {"start": 0.5, "decay": "linear", "over": 32}},
}


def test_stopped_and_resumed_in_any_phase_equals_unbroken(dataset):
    made, end = job(**NOISY), 104
    unbroken, kept = built(made, dataset), {}
    for images in range(0, end, BATCH):
        kept[images] = states(unbroken)
        train(unbroken, dataset, images, images + BATCH)
    finished = states(unbroken)
    # 8: stabilise; 16: at the growth to 8x8; 24: just after; 40: mid-fade; 56: hold; 64, 72: around the growth to 16x16
    for stopped in (8, 16, 24, 40, 56, 64, 72):
        resumed = built(made, dataset)
        for name, part in resumed.parts.items():
            part.load_state_dict(kept[stopped][name])
        train(resumed, dataset, stopped, end)
        assert same(states(resumed), finished), f"stopped at {stopped}"
        assert torch.equal(resumed.sample(5, 3), unbroken.sample(5, 3))


def test_moments_of_adam_are_forgotten_at_growth(dataset):
    for reset in (True, False):
        recipe = built(job(optimizer={"reset_on_growth": reset}), dataset)
        train(recipe, dataset, 0, 16)
        before = len(recipe.G_optimizer.state)
        recipe.G_optimizer.state_dict()
        train(recipe, dataset, 16, 24)
        steps = {int(state["step"]) for state in recipe.G_optimizer.state.values()}
        assert before and (steps == {1} if reset else steps == {1, 3})


def test_accumulated_gradients_are_those_of_the_whole_batch(dataset):
    """Up to the draws: without z, noise and statistics of the batch there are none."""
    still = {
        "latent": {"source": "encoder", "size": 4, "style": 8},
        "generator": {"channels_max": 8, "noise": "off"},
        "discriminator": {"channels_max": 8, "dense": 8, "stddev_group": 1},
    }
    scalars = []
    for micro in (8, 2):
        made = job(**still)
        made = made.model_copy(update={"training": made.training.model_copy(update={"micro_batch": micro})})
        scalars.append(built(made, dataset).step(batch(dataset, 0), 0))
    for name in ("loss.discriminator", "gradient.discriminator", "loss.r1", "gradient.generator", "accuracy"):
        torch.testing.assert_close(scalars[0][name], scalars[1][name], rtol=1e-3, atol=1e-5)


def test_the_wiring_check_passes_every_resolution_and_catches_the_notes_wiring(dataset):
    finding = check_wiring(lambda: built(job(**NOISY), dataset), batch(dataset, 0), BATCH)
    assert finding.verdict == "healthy"
    with pytest.raises(Miswired) as caught:
        check_wiring(lambda: built(job(wiring="rgb_unregistered"), dataset), batch(dataset, 0), BATCH)
    problems = caught.value.finding.message
    assert "D.plain_from_ink[0].weight: its gradient was computed, but the step ended before an optimizer" in problems


def test_unregistered_layers_stay_as_they_were_drawn(dataset):
    recipe = built(job(wiring="rgb_unregistered"), dataset)
    before = [layer.weight.detach().clone() for layer in (*recipe.G.synthesis.plain_to_ink, *recipe.D.plain_from_ink)]
    train(recipe, dataset, 0, 104)
    after = [layer.weight.detach() for layer in (*recipe.G.synthesis.plain_to_ink, *recipe.D.plain_from_ink)]
    assert len(before) == 5 and all(map(torch.equal, before, after))


def test_layers_that_have_not_begun_are_late(dataset):
    recipe = built(job(), dataset)
    late = {id(tensor) for tensor in recipe.late(0)}
    train(recipe, dataset, 0, 8)
    for network in (recipe.G, recipe.D):
        for parameter in network.parameters():
            stepped = parameter in recipe.G_optimizer.state or parameter in recipe.D_optimizer.state
            assert stepped != (id(parameter) in late)
    assert not recipe.late(10_000)


@pytest.mark.parametrize("source", ["encoder", "z", "encoder_and_z", "none"])
@pytest.mark.parametrize("loss", ["wgan", "hinge", "logistic"])
def test_every_latent_and_loss_takes_a_step(dataset, source, loss):
    penalty = {"weight": 10, "at": "interpolates" if loss == "wgan" else "real"}
    losses = {"adversarial": loss, "gradient_penalty": penalty, "drift": 0.001, "ink": 0.01, "r1": {"gamma": 0}}
    recipe = built(job(latent={"source": source, "size": 4, "style": 8}, loss=losses, discriminator_steps=2), dataset)
    scalars = train(recipe, dataset, 0, 16)
    assert all(torch.isfinite(value) for value in scalars.values())
    assert {"loss.gradient_penalty", "loss.ink"} <= scalars.keys()


def labels(dataset, kind, amount, times=1):
    recipe = built(job(label_noise={"kind": kind, "amount": {"start": amount}}), dataset)
    return [recipe._labels(torch.zeros(4000, 1), 0, recipe.timetable.at(0)) for _ in range(times)]


def test_label_noise_of_every_kind(dataset):
    (smooth,) = labels(dataset, "smooth", 0.1)
    assert torch.allclose(smooth.real_N1, torch.tensor(0.9)) and (smooth.fake_N1 == 1).all()  # one-sided
    (flipped,) = labels(dataset, "flip_real", 0.2)
    assert set(flipped.real_N1.unique().tolist()) == {0.0, 1.0} and (flipped.fake_N1 == 1).all()
    assert abs(float(flipped.real_N1.mean()) - 0.8) < 0.03
    swapped = labels(dataset, "swap_all", 0.5, 20)
    assert all(len(both.real_N1.unique()) == 1 and torch.equal(both.real_N1, both.fake_N1) for both in swapped)
    assert {float(both.real_N1[0]) for both in swapped} == {0.0, 1.0}


@pytest.mark.parametrize("kind", ["wgan", "hinge", "logistic"])
def test_exchanged_labels_exchange_the_loss(kind):
    loss, real, fake = critic_loss(kind), torch.randn(8, 1), torch.randn(8, 1)
    all_sure, none = torch.ones(8, 1), torch.zeros(8, 1)
    plain = relabelled(loss, real, fake, all_sure, all_sure)
    torch.testing.assert_close(plain, loss.real(real).mean() + loss.fake(fake).mean())
    torch.testing.assert_close(relabelled(loss, fake, real, none, none), plain)


def test_instance_noise_decays_by_its_clock_and_is_reported_at_every_growth(dataset):
    for clock, at_growth in (("global", 0.5 / (1 + 16 / 16)), ("growth", 0.5)):
        deviation = {"start": 0.5, "decay": "harmonic", "over": 16, "clock": clock}
        recipe = built(job(instance_noise={"applies_to": "real", "deviation": deviation}), dataset)
        assert recipe.effective(0)["growth.8.instance_noise"] == pytest.approx(at_growth)
        assert recipe.effective(0)["growth.8.begins_images"] == 16
    moment = recipe.timetable.at(16)
    share = next(recipe._shares(batch(dataset, 0), moment))
    seen = [recipe._seen(share.part_N1SS, share, 16, moment, real=real) for real in (True, False)]
    assert float((seen[0] - seen[1]).std()) == pytest.approx(0.5, rel=0.1)  # on the real ones alone


def test_the_discriminator_sees_the_part_in_its_channel_and_the_whole(dataset):
    recipe = built(job(), dataset)
    share = next(recipe._shares(batch(dataset, 0), recipe.timetable.at(10_000)))
    seen = recipe._stacked(share.part_N1SS, share.given_NPSS)
    torch.testing.assert_close(seen[:, recipe.part : recipe.part + 1], share.part_N1SS)
    torch.testing.assert_close(seen[:, -1], seen[:, :-1].amax(1))


def test_pictures_are_a_function_of_the_seed_and_follow_the_drawing(dataset):
    recipe = built(job(), dataset)
    train(recipe, dataset, 0, 24)
    assert recipe.sample(40, 1).shape == (40, 1, 16, 16)
    assert torch.equal(recipe.sample(40, 1), recipe.sample(40, 1))
    assert not torch.equal(recipe.sample(40, 1), recipe.sample(40, 2))
    without_data = Sketch(job(), Known(), "fp32", torch.device("cpu"))
    without_data.drawer_ema.load_state_dict(recipe.drawer_ema.state_dict())
    assert without_data.show(5, 1).shape == (5, 1, 16, 16)
    assert without_data.begun(3, 1).any()


def test_rollback_changes_what_it_says(dataset):
    recipe = built(job(loss={"r1": {"gamma": 2.0}}), dataset)
    recipe.adjust(learning_rate_factor=0.5, r1_gamma_factor=3.0)
    recipe.adjust(learning_rate_factor=0.5, r1_gamma_factor=3.0)
    assert recipe.effective(0)["r1.gamma"] == 6.0 and recipe.effective(0)["learning_rate.G"] == 5e-4
