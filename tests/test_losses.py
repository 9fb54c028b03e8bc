"""Losses and penalties against closed forms in float64."""

import math

import pytest
import torch

from jobs.losses.adversarial import logistic_fake, logistic_fool, logistic_real
from jobs.losses.penalties import on_noise, path_lengths, r1
from jobs.losses.slopes import Slope, slope, slope_before


def test_logistic_losses_are_the_logarithms_they_stand_for():
    logit = torch.randn(64, 1, dtype=torch.float64)
    probability = torch.sigmoid(logit)
    torch.testing.assert_close(logistic_real(logit), -probability.log().mean())
    torch.testing.assert_close(logistic_fool(logit), -probability.log().mean())
    torch.testing.assert_close(logistic_fake(logit), -(1 - probability).log().mean())
    assert torch.isfinite(logistic_fake(torch.tensor([[1e4]])))


def test_r1_of_a_quadratic_is_known():
    # D(x) = a/2 ‖x‖², ∇D = a·x, so ‖∇D‖² = a²‖x‖²; its derivative in a is 2a‖x‖².
    a = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    penalty = r1(slope(lambda image: a / 2 * image.square().sum(dim=(1, 2, 3), keepdim=False)[:, None], x))
    norm = x.square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(penalty, a.detach() ** 2 * norm)
    penalty.backward()
    torch.testing.assert_close(a.grad, 2 * a.detach() * norm)


def test_path_lengths_of_a_linear_generator_are_known():
    # G(w) = A·mean over layers of w: J is A/L for each layer, so E‖Jᵀy‖² over layers is ‖A‖²_F / (L² · H·W).
    torch.manual_seed(0)
    layers, width, side = 4, 6, 8
    matrix = torch.randn(3 * side * side, width, dtype=torch.float64)
    w = torch.randn(4000, layers, width, dtype=torch.float64)

    def image_of(w):
        return (w.mean(dim=1) @ matrix.t()).reshape(-1, 3, side, side)

    lengths = path_lengths(slope(lambda w: on_noise(image_of(w)), w))
    expected = matrix.square().sum() / (layers**2 * side * side)
    assert lengths.shape == (4000,)
    assert lengths.square().mean().item() == pytest.approx(expected.item(), rel=0.05)
    assert math.isfinite(lengths.sum().item())


def softly(image, scale):
    return torch.nn.functional.softplus(scale * image.square()).sum(dim=(1, 2, 3))[:, None]


def test_a_compiled_slope_and_its_own_gradients_are_the_plain_ones_in_float64():
    """The backend that traces and differentiates, without code of its own: what is compared is the mathematics."""
    torch.compiler.reset()
    torch.manual_seed(0)
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    plain, compiled = Slope(softly), Slope(softly)
    compiled.compile(backend="aot_eager", dynamic=False, fullgraph=True)
    found = []
    for module in (plain, compiled):
        scale, at = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), x.clone().requires_grad_(True)
        gradient = module(at, scale)
        gradient.square().sum().backward()  # of second order, in both
        found.append((gradient.detach(), scale.grad, at.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_a_slope_reaches_through_a_change_of_what_is_seen():
    torch.manual_seed(0)
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    weights = []
    for change in (torch.tanh, lambda x: x):
        at_once = slope(lambda image, change=change: softly(change(image), scale), x)
        in_two = slope_before(change, lambda seen: slope(lambda image: softly(image, scale), seen), x)
        torch.testing.assert_close(in_two, at_once, atol=1e-12, rtol=1e-12)
        weights += [torch.autograd.grad(gradient.square().sum(), scale)[0] for gradient in (at_once, in_two)]
    torch.testing.assert_close(weights[0], weights[1], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(weights[2], weights[3], atol=1e-12, rtol=1e-12)
