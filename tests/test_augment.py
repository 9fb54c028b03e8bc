"""Augmentations against closed forms: what moves, what stays, what a second derivative must be."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.losses.penalties import r1
from jobs.losses.slopes import slope
from jobs.networks import augment
from jobs.networks.ada import Blit, Colour, Geometry
from jobs.networks.augment import Ada, Augmentation, DiffAugment, cut_out, translated
from jobs.networks.grid_sample import sample
from jobs.spec import augmentation as spec

NEVER, ALWAYS = torch.tensor(0.0), torch.tensor(1.0)


def images(count=6, channels=3, side=16):
    torch.manual_seed(0)
    return torch.randn(count, channels, side, side)


def test_sampling_and_both_derivatives_are_those_of_a_linear_map():
    torch.manual_seed(0)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    grid = torch.rand(2, 3, 5, 2, dtype=torch.float64) * 3 - 1.5  # outside too
    expected = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(sample(x, grid), expected)
    assert torch.autograd.gradcheck(lambda x: sample(x, grid), x)
    assert torch.autograd.gradgradcheck(lambda x: sample(x, grid), x)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("transform", [Blit, Geometry, Colour])
def test_with_probability_zero_an_image_stays_what_it_is(transform, channels):
    x = images(channels=channels)
    torch.testing.assert_close(transform(16)(x, NEVER), x, atol=1e-5, rtol=0)


def test_blit_moves_pixels_and_interpolates_none():
    x = images(count=40)
    out = Blit(16)(x, ALWAYS)
    assert not torch.allclose(out, x, atol=1e-3)
    for before, after in zip(x[:, 0].flatten(1), out[:, 0].flatten(1), strict=True):
        nearest = (after[:, None] - before[None]).abs().min(dim=1).values
        assert nearest.max() < 1e-4  # every value was a pixel of the image before
    turned = Blit(16)(x.mean(dim=(2, 3), keepdim=True).expand_as(x), ALWAYS)
    torch.testing.assert_close(turned, x.mean(dim=(2, 3), keepdim=True).expand_as(x), atol=1e-5, rtol=0)


def test_geometry_is_about_the_middle_and_changes_only_some_images():
    disc = (torch.linspace(-1, 1, 32)[:, None].square() + torch.linspace(-1, 1, 32).square() < 0.1).float()
    torch.manual_seed(1)
    out = Geometry(32)(disc.expand(200, 1, -1, -1), torch.tensor(0.3))
    same = (out - disc).abs().amax(dim=(1, 2, 3)) < 1e-6
    expected = 0.7**4  # scaling, stretching, shifts, and either of the two rotations
    assert same.float().mean().item() == pytest.approx(expected, abs=0.1)
    area = out.sum(dim=(1, 2, 3)) / disc.sum()
    assert area.median().item() == pytest.approx(1.0, abs=0.1)


def test_colour_changes_colour_and_keeps_grey_grey():
    x = images(count=50)
    out = Colour(16)(x, ALWAYS)
    assert (out - x).abs().mean(dim=(1, 2, 3)).min() > 0.01
    grey = x[:, :1].expand(-1, 3, -1, -1)
    changed = Colour(16)(grey, ALWAYS)
    torch.testing.assert_close(changed[:, 0], changed[:, 1], atol=1e-4, rtol=1e-4)  # hue and saturation turn about grey
    alpha = Colour(16)(images(count=50, channels=4), ALWAYS)[:, 3]
    torch.testing.assert_close(alpha, images(count=50, channels=4)[:, 3])


def test_colour_moves_colours_on_a_cone_about_grey():
    """Without brightness and contrast: the matrix is ± along grey, and a rotation times saturation beside it."""
    torch.manual_seed(0)
    matrix = Colour(16)._turned(100, ALWAYS)
    axis = torch.full([3], 1 / math.sqrt(3))
    along = torch.einsum("i,nij,j->n", axis, matrix, axis)
    torch.testing.assert_close(along.abs(), torch.ones(100))
    assert {round(value) for value in along.tolist()} == {-1, 1}
    singular = torch.linalg.svdvals(matrix - axis[:, None] * axis * along[:, None, None])
    torch.testing.assert_close(singular[:, 0], singular[:, 1], atol=1e-4, rtol=1e-4)


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_translation_shifts_whole_pixels_with_zeros_behind(seed):
    x = images(count=3, side=16)
    torch.manual_seed(seed)
    out = translated(x)
    for before, after in zip(x, out, strict=True):
        found = False
        for down in range(-2, 3):
            for right in range(-2, 3):
                moved = torch.zeros_like(before)
                rows, columns = slice(max(down, 0), 16 + min(down, 0)), slice(max(right, 0), 16 + min(right, 0))
                source = before[:, max(-down, 0) : 16 + min(-down, 0), max(-right, 0) : 16 + min(-right, 0)]
                moved[:, rows, columns] = source
                found = found or torch.equal(moved, after)
        assert found


def test_cutout_leaves_a_square_hole():
    torch.manual_seed(0)
    holes = (cut_out(torch.ones(500, 1, 16, 16)) == 0)[:, 0]
    assert (
        holes.sum(dim=(1, 2)).max() == 64 and holes.sum(dim=(1, 2)).min() >= 16
    )  # half the side; a quarter at a corner
    assert holes.float().mean(0).min() > 0  # anywhere


@pytest.mark.parametrize("section", [spec.DiffAugment(), spec.Ada(p=1.0)], ids=["diffaugment", "ada"])
def test_r1_reaches_through_an_augmentation(section):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Softplus(), torch.nn.Flatten())
    head = torch.nn.Linear(4 * 256, 1)
    seen = augment.build(section, 16)

    def penalty(x):
        torch.manual_seed(1)
        return r1(slope(lambda image: head(network(seen(image))), x))

    value = penalty(images())
    value.backward()
    weight = network[0].weight
    analytic = weight.grad[0, 0, 0, 0].item()
    step = 1e-2
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0, 0, 0] += sign * step
        sides.append(penalty(images()).item())
        with torch.no_grad():
            weight[0, 0, 0, 0] -= sign * step
    assert analytic == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=0.05, abs=1e-5)


def test_p_follows_the_sign_of_the_discriminator_on_real_images():
    ada = Ada(spec.Ada(target=0.6, interval=2, rise_images=1000, p=0.5), 16)
    for iteration in range(4):  # 32 images between two changes
        ada.observe(torch.ones(16, 1))
        ada.adapt(iteration, 16)
    assert ada.p.item() == pytest.approx(0.5 + 2 * 0.032)
    for iteration in range(60):
        ada.observe(torch.tensor([[1.0], [-1.0]]))
        ada.adapt(iteration, 16)
    assert ada.p.item() == 0.0  # never below
    still = Ada(spec.Ada(target=None, p=0.3), 16)
    still.observe(torch.ones(16, 1))
    still.adapt(3, 16)
    assert still.p.item() == pytest.approx(0.3)


def test_without_a_section_nothing_is_done():
    x = images()
    assert augment.build(None, 16)(x) is x and type(augment.build(None, 16)) is Augmentation
    assert isinstance(augment.build(spec.DiffAugment(), 16), DiffAugment)
