"""Growing networks: what fades, what is trained, how large they are."""

import itertools

import pytest
import torch

from jobs.networks.discriminator import minibatch_stddev
from jobs.networks.growing import GrowingDiscriminator, GrowingGenerator, doubled, faded, halved, shrunk
from jobs.spec.sketch import Discriminator, Encoder, Generator, Latent, Selector, Sketch
from jobs.spec.sketch_data import ToyBirds
from jobs.spec.sketch_size import size

DATA = ToyBirds(part="eye", resolution=16, drawings=8)


def generator(wiring="registered", **changes):
    torch.manual_seed(0)
    sections = (
        Encoder(channels=4, channels_max=8),
        Latent(size=4, style=8),
        Generator(channels_max=8, noise="off", **changes),
    )
    return GrowingGenerator(sections, 16, 9, 0, wiring)


def discriminator(wiring="registered", **changes):
    torch.manual_seed(1)
    return GrowingDiscriminator(Discriminator(channels_max=8, dense=8, **changes), 16, 9, 0, wiring)


DRAWING, Z = torch.rand(4, 9, 16, 16, generator=torch.Generator().manual_seed(2)), torch.ones(4, 4)


@pytest.mark.parametrize("level", [1, 2])
def test_a_generator_fades_from_the_lower_resolution_to_the_new_layer(level):
    network = generator()
    below, new = network(DRAWING, Z, level - 1, 1.0), network(DRAWING, Z, level, 1.0)
    torch.testing.assert_close(network(DRAWING, Z, level, 0.0), doubled(below))
    torch.testing.assert_close(network(DRAWING, Z, level, 0.3), 0.3 * new + 0.7 * doubled(below))
    assert new.shape == (4, 1, 4 << level, 4 << level)


@pytest.mark.parametrize("level", [1, 2])
def test_a_discriminator_fades_from_the_lower_resolution(level):
    network = discriminator()
    image = torch.rand(4, 9, 4 << level, 4 << level)
    torch.testing.assert_close(network(image, level, 0.0), network(halved(image), level - 1, 1.0))
    assert not torch.allclose(network(image, level, 1.0), network(image, level, 0.0))


def test_real_pictures_fade_as_those_of_the_generator_do():
    image = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(faded(image, 0.0), doubled(halved(image)))
    torch.testing.assert_close(faded(image, 1.0), image)
    torch.testing.assert_close(shrunk(image, 4), halved(halved(image)))


def test_a_skip_generator_sums_every_resolution():
    network = generator(architecture="skip")
    network(DRAWING, Z, 2, 1.0).sum().backward()
    assert all(layer.weight.grad is not None for layer in network.synthesis.to_ink)


@pytest.mark.parametrize("wiring", ["rgb_unregistered", "rgb_and_constant_unregistered"])
def test_the_notes_wiring_computes_but_names_no_layer_to_and_from_ink(wiring):
    network, judge = generator(wiring), discriminator(wiring)
    assert network(DRAWING, Z, 2, 0.5).shape == (4, 1, 16, 16)
    assert judge(torch.rand(4, 9, 16, 16), 2, 0.5).shape == (4, 1)
    names = [name for name, _ in network.named_parameters()]
    assert [name for name in names if "ink" in name] == ["synthesis.to_ink.0.weight", "synthesis.to_ink.0.bias"]
    assert ("synthesis.constant" in names) == (wiring == "rgb_unregistered")
    assert not [name for name, _ in judge.named_parameters() if "ink" in name]


@pytest.mark.parametrize("count", [1, 3, 5, 6])
def test_statistics_of_the_batch_adapt_to_any_batch(count):
    assert discriminator(stddev_group=5)(torch.rand(count, 9, 4, 4), 0, 1.0).shape == (count, 1)
    image = torch.rand(6, 2, 4, 4)
    assert minibatch_stddev(image, 3).shape == (6, 3, 4, 4)


def test_noise_is_shared_by_the_batch_or_not():
    for kind, same in (("shared", True), ("per_sample", False)):
        torch.manual_seed(0)
        sections = (Encoder(channels=4), Latent(size=4, style=8, source="none"), Generator(channels_max=8, noise=kind))
        network = GrowingGenerator(sections, 8, 9, 0, "registered")
        for name, parameter in network.named_parameters():
            if "noise" in name:
                parameter.data.fill_(1.0)
        pictures = network(torch.zeros(2, 9, 8, 8), Z[:2], 1, 1.0)
        assert torch.allclose(pictures[0], pictures[1], atol=1e-5) == same


VARIANTS = [
    {},
    {"latent": Latent(source="encoder", size=5), "generator": Generator(convolutions=2, upsampling="transposed")},
    {"latent": Latent(source="z"), "encoder": Encoder(concatenate=False), "generator": Generator(noise="off")},
    {"latent": Latent(source="none"), "growth": {"kind": "none"}, "generator": Generator(architecture="skip")},
    {"growth": {"kind": "none"}, "discriminator": Discriminator(convolutions=2, dense_layers=1)},
    {"growth": {"kind": "phases", "start_resolution": 8}, "discriminator": Discriminator(dense_layers=3)},
    {"wiring": "rgb_unregistered"},
    {"wiring": "rgb_and_constant_unregistered", "selector": Selector(channels=3)},
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_in_closed_form_are_those_of_the_networks(variant):
    from jobs.recipes.sketch import Sketch as Recipe
    from jobs.training.recipe import Known
    from tests.test_recipe_sketch import job

    made = job(**variant)
    recipe = Recipe(made, Known(), "fp32", torch.device("cpu"))
    counted = {name: sum(p.numel() for p in network.parameters()) for name, network in recipe.networks.items()}
    assert size(made.recipe).parameters == counted


@pytest.mark.parametrize(
    ("upsampling", "pixel_norm"), [*itertools.product(["bilinear", "nearest", "transposed"], [True, False])]
)
def test_every_way_of_upsampling_doubles(upsampling, pixel_norm):
    assert generator(upsampling=upsampling, pixel_norm=pixel_norm)(DRAWING, Z, 2, 1.0).shape == (4, 1, 16, 16)


def test_a_sketch_is_a_section_of_its_own():
    assert Sketch(data=DATA).wiring == "registered"
