"""AttFind against a space whose answer is known: pictures are their styles, and the classifier reads two of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.evaluation.attfind import DOWN, UP, AttFind, log_odds
from jobs.networks.precision import Precision
from jobs.networks.stylespace import StyleSpace
from jobs.networks.synthesis import Synthesis
from jobs.spec.stylegan2 import Generator
from jobs.spec.stylex import AttFind as Section

COORDINATES = 6


class Pictures:
    """w is the style, and the style is the picture."""

    def __len__(self):
        return COORDINATES

    def read(self, w):
        return w, w.view(-1, 1, 1, COORDINATES)

    def moved(self, w, shift):
        return (w + shift).view(-1, 1, 1, COORDINATES)


def classify(image):
    """Class 1 by coordinate 2 up and coordinate 4 down; the others do nothing."""
    style = image.flatten(1)
    return torch.stack([torch.zeros(len(style)), 3 * style[:, 2] - 2 * style[:, 4] + 0.5], dim=1)


def search(**section) -> AttFind:
    return AttFind(Pictures(), classify, Section(coordinates=4, batch=7, **section))


@pytest.fixture
def w():
    return torch.randn(30, COORDINATES, generator=torch.Generator().manual_seed(0))


@given(st.integers(0, 1000), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_log_odds_are_those_of_the_probabilities(seed, classes):
    logits = torch.randn(4, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    p = logits.softmax(1)
    torch.testing.assert_close(log_odds(logits), (p / (1 - p)).log())


@pytest.mark.parametrize("shift", [1.0, 0.5])
def test_effects_are_those_of_moving_one_coordinate_to_its_extremes(w, shift):
    effects = search(shift=shift).measure(w)
    before = classify(w.view(-1, 1, 1, COORDINATES))
    for image in (0, 17):
        for direction, extreme in ((DOWN, w.min(0).values), (UP, w.max(0).values)):
            for index in range(COORDINATES):
                moved = w[image].clone()
                moved[index] += shift * (extreme[index] - moved[index])
                change = classify(moved.view(1, 1, 1, -1))[0] - before[image]
                expected = float(change[1] - change[0])
                assert float(effects.effect_N2SK[image, direction, index, 1]) == pytest.approx(expected, abs=1e-5)
                assert float(effects.effect_N2SK[image, direction, index, 0]) == pytest.approx(-expected, abs=1e-5)


@pytest.mark.parametrize("strategy", ["largest_effect", "most_images"])
def test_the_two_causes_are_selected_with_their_ways(w, strategy):
    found = search(strategy=strategy)
    effects = found.measure(w)
    towards_1 = found.select(effects, 1)
    assert [(choice.index, choice.direction) for choice in towards_1] == [(2, UP), (4, DOWN)]
    towards_0 = found.select(effects, 0)
    assert {(choice.index, choice.direction) for choice in towards_0} == {(2, DOWN), (4, UP)}
    merged = found.merged(effects)
    assert [(target, choice.index, choice.direction) for target, choice in merged] == [(1, 2, UP), (1, 4, DOWN)]
    assert merged[0][1].two_sided > merged[1][1].two_sided > 0


def test_flips_count_the_images_that_change(w):
    found = search()
    effects = found.measure(w)
    choices = found.select(effects, 1)
    flips = found.flips(effects, 1, choices)
    others = w[effects.said_N != 1]
    first = others.clone()
    first[:, 2] = w[:, 2].max()
    both = first.clone()
    both[:, 4] = w[:, 4].min()
    expected = [float((classify(x.view(-1, 1, 1, COORDINATES)).argmax(1) == 1).float().mean()) for x in (first, both)]
    assert flips.independent == pytest.approx(expected) and flips.images == len(others)
    assert flips.subset[0] >= flips.independent[0] and flips.subset[-1] == pytest.approx(expected[-1])


def test_explained_images_make_room_for_other_coordinates():
    """Two causes of equal strength, one for each half of the images: the second is found though its mean is lower."""

    def halves(image):
        style = image.flatten(1)
        logit = torch.where(style[:, 5] > 0, 3 * style[:, 0], 2 * style[:, 1] + 1.5 * style[:, 2]) - 8
        return torch.stack([torch.zeros(len(style)), logit], dim=1)

    w = torch.zeros(40, COORDINATES)
    w[:20, 5] = 1
    w[0, :3] = w[20, :3] = 2
    found = AttFind(Pictures(), halves, Section(coordinates=2, explained_above=3.0))
    effects = found.measure(w)
    assert [choice.index for choice in found.select(effects, 1)] == [0, 1]


@pytest.mark.parametrize("strategy", ["largest_effect", "most_images"])
def test_by_cost_a_coordinate_that_redraws_everything_stands_behind(w, strategy):
    """The stronger cause, coordinate 2, fills the rest of the picture too."""

    class Redrawn(Pictures):
        def read(self, w):
            return w, self.painted(w)

        def moved(self, w, shift):
            return self.painted(w + shift)

        def painted(self, style):
            return torch.cat([style, style[:, 2:3].expand(-1, 100)], dim=1).view(len(style), 1, 1, -1)

    orders = {}
    for rank_by in ("effect", "effect_per_change"):
        found = AttFind(Redrawn(), classify, Section(coordinates=4, batch=7, strategy=strategy, rank_by=rank_by))
        effects = found.measure(w)
        orders[rank_by] = [choice.index for _, choice in found.merged(effects)]
        change_S = effects.picture_change_2S.mean(0)
    assert orders == {"effect": [2, 4], "effect_per_change": [4, 2]}
    assert change_S[2] > 50 * change_S[4]


def test_images_and_coordinates_are_filtered_by_the_discriminator(w):
    def score(image, _logits):  # coordinate 4 spoils a picture; image 3 is the least real
        style = image.flatten(1)
        return -100 * (style[:, 0] == w[3, 0]).float() - style[:, 4].abs() * 10

    section = Section(coordinates=4, drop_least_real=0.04, most_score_change=5.0)
    found = AttFind(Pictures(), classify, section, score)
    effects = found.measure(w)
    assert len(effects.kept_N) == 29 and 3 not in effects.kept_N.tolist()
    assert [choice.index for choice in found.select(effects, 1)] == [2]


def test_unstable_images_are_left_out(w):
    w[5] = 3.0  # far from both extremes of everything: every move acts
    effects = search(unstable_effect=3.0, unstable_share=0.2).measure(w)
    acts = (search().measure(w).effect_N2SK.abs().amax(3) > 3.0).double().mean((1, 2)) > 0.2
    assert acts.any() and not acts.all()
    assert effects.kept_N.tolist() == torch.nonzero(~acts).flatten().tolist()
    assert len(effects.w_ND) == len(effects.effect_N2SK) == int((~acts).sum())


def test_nothing_is_selected_where_nothing_acts(w):
    found = AttFind(Pictures(), lambda image: torch.zeros(len(image), 2), Section())
    effects = found.measure(w)
    assert found.select(effects, 1) == [] and found.select(effects, 0) == []
    assert found.flips(effects, 1, []).independent == ()


@pytest.mark.parametrize("noise", [True, False])
def test_a_style_space_reads_and_moves_every_styled_convolution(noise):
    torch.manual_seed(0)
    shape = Generator(
        channels_base=64, channels_max=8, style=4, to_rgb={"present": "all"},
        noise={"mode": "random", "strength_init": 0.3} if noise else {"mode": "off"},
    )  # fmt: skip
    network = Synthesis(shape, 16, 3, Precision("fp32", 16))
    space = StyleSpace(network)
    assert len(space) == 8 + (8 + 8) + (8 + 4)
    w = torch.randn(3, 4)
    style, image = space.read(w)
    assert style.shape == (3, len(space))
    torch.testing.assert_close(style[:, 8:16], network.blocks[1].conv0.injection.affine(w))
    torch.testing.assert_close(space.moved(w, torch.zeros(3, len(space))), image)
    shift = torch.zeros(3, len(space))
    shift[1, 9] = 2.0
    moved = space.moved(w, shift)
    torch.testing.assert_close(moved[[0, 2]], image[[0, 2]])
    assert not torch.equal(moved[1], image[1])
    with torch.no_grad():  # the same as editing the bias of the style's layer
        network.blocks[1].conv0.injection.affine.bias[1] += 2.0
        torch.testing.assert_close(space.read(w)[1][1], moved[1])
    assert str(space.coordinates[9]) == "8×8 conv0 · 1"
