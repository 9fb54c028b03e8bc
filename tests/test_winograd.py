"""Convolutions by tiles equal the direct ones, and so do their derivatives."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jobs.losses.penalties import r1
from jobs.networks import winograd
from jobs.networks.discriminator import Discriminator
from jobs.networks.injection import modulated_conv
from jobs.networks.precision import Precision

SMALL = st.integers(1, 5)
SIDES = st.integers(1, 11)


def drawn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_(True)


@given(SMALL, SMALL, SMALL, SIDES, SIDES, st.booleans())
@settings(max_examples=60, deadline=None)
def test_in_any_shape_it_is_the_convolution_and_so_are_its_gradients(count, inputs, outputs, height, width, last):
    layout = torch.channels_last if last else torch.contiguous_format
    x = drawn(count, inputs, height, width).detach().contiguous(memory_format=layout).requires_grad_(True)
    weight = drawn(outputs, inputs, 3, 3, seed=1)
    y_bar = drawn(count, outputs, height, width, seed=2).detach()
    by_tiles, directly = winograd.winograd(x, weight), F.conv2d(x, weight, padding=1)
    torch.testing.assert_close(by_tiles, directly, rtol=0, atol=1e-12)
    ours, torchs = (torch.autograd.grad(y, (x, weight), y_bar) for y in (by_tiles, directly))
    for our, its in zip(ours, torchs, strict=True):
        torch.testing.assert_close(our, its, rtol=0, atol=1e-11)


def test_every_order_of_its_derivatives_is_its_own():
    x, weight = drawn(2, 2, 5, 6), drawn(3, 2, 3, 3, seed=1)
    assert torch.autograd.gradcheck(winograd.winograd, (x, weight))
    assert torch.autograd.gradgradcheck(winograd.winograd, (x, weight))


def test_one_gradient_alone_is_computed_alone():
    x, weight = drawn(2, 2, 5, 6), drawn(3, 2, 3, 3, seed=1)
    for which in (x, weight):
        (ours,) = torch.autograd.grad(winograd.winograd(x, weight).square().sum(), which)
        (torchs,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), which)
        torch.testing.assert_close(ours, torchs)


def test_functional_transforms_go_through_it():
    x, weight = drawn(2, 2, 5, 6).detach(), drawn(3, 2, 3, 3, seed=1).detach()
    ours = torch.func.grad(lambda x: winograd.winograd(x, weight).pow(3).sum())(x)
    torch.testing.assert_close(ours, torch.func.grad(lambda x: F.conv2d(x, weight, padding=1).pow(3).sum())(x))


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_wide_layers_take_it_close_to_float32_and_keep_their_layout(last):
    layout = torch.channels_last if last else torch.contiguous_format
    x = drawn(2, winograd.WIDE_MAPS, 16, 20, dtype=torch.float32).detach().contiguous(memory_format=layout)
    weight = drawn(winograd.WIDE_MAPS, winograd.WIDE_MAPS, 3, 3, dtype=torch.float32, seed=1).detach()
    bias = torch.ones(winograd.WIDE_MAPS)
    y = winograd.centred_conv(x, weight, bias)
    assert y.is_contiguous(memory_format=layout)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    off = float((y.double() - exact).norm() / exact.norm())
    assert 5e-7 < off < 1e-5, "tiles round more than the direct way, which would be off by 1e-7"


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "kernel", "dtype"),
    [
        (255, 256, 24, 3, torch.float32),
        (256, 255, 24, 3, torch.float32),
        (256, 256, 20, 3, torch.float32),
        (256, 256, 24, 1, torch.float32),
        (256, 256, 24, 3, torch.bfloat16),
    ],
)
def test_all_others_are_convolved_directly(inputs, outputs, side, kernel, dtype):
    x, weight = drawn(1, inputs, side, side, dtype=dtype), drawn(outputs, inputs, kernel, kernel, dtype=dtype, seed=1)
    assert torch.equal(winograd.centred_conv(x, weight), F.conv2d(x, weight, padding=kernel // 2))


def test_a_wide_discriminator_and_its_penalty_are_the_same_either_way(monkeypatch):
    torch.manual_seed(0)
    D = Discriminator(
        16, 3, base=4096, most=256, architecture="resnet", stddev_group=2, precision=Precision("fp32", 16)
    )
    image = drawn(2, 3, 16, 16, dtype=torch.float32)

    def gradients() -> list[Tensor]:
        logits = D(image)
        (slope,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        return list(torch.autograd.grad(logits.sum() + r1(slope), list(D.parameters()), allow_unused=True))

    by_tiles = gradients()
    monkeypatch.setattr(winograd, "WIDE_MAPS", 10_000)
    directly = gradients()
    for ours, plain in zip(by_tiles, directly, strict=True):
        if plain is not None:
            assert float((ours - plain).norm()) <= 1e-4 * float(plain.norm()) + 1e-7
    assert not all(ours is None or torch.equal(ours, plain) for ours, plain in zip(by_tiles, directly, strict=True))


def test_a_wide_styled_convolution_takes_it(monkeypatch):
    x, weight = drawn(2, 256, 16, 16, dtype=torch.float32), drawn(256, 256, 3, 3, dtype=torch.float32, seed=1)
    style = drawn(2, 256, dtype=torch.float32, seed=2)
    taken = modulated_conv(x, weight, style, demodulate=True, up=False).x
    monkeypatch.setattr(winograd, "WIDE_MAPS", 10_000)
    direct = modulated_conv(x, weight, style, demodulate=True, up=False).x
    assert not torch.equal(taken, direct)
    torch.testing.assert_close(taken, direct, rtol=1e-4, atol=1e-3)
