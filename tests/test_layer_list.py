"""Lists of layers: the short form, shapes and weights in closed form against built networks, what cannot be."""

import pytest
import torch
from torch.nn import functional as F

from jobs.errors import SpecError
from jobs.networks.layer_list import Block, LayerNetwork, PaddedConv, by_pixel, demodulated
from jobs.spec.arrows import parse
from jobs.spec.layer_list import Conv, Final, Network, Resize, Spap
from jobs.spec.layer_shapes import ShapeError, trace
from tests.tiny import EVERY, loaded

TRANSLATION = next(path for path in EVERY if path.stem == "translation")
NOTES = "input -> resize(256) -> conv2d(d64,k7,s1) -> spap(5) -> resize(512) -> conv2d(d4,k7)"
LISTS = {
    "notes, small": "resize(16) -> conv(d8,k7) -> spap(3) -> resize(32) -> final(k7)",
    "autoencoder": "conv(d8,k7) -> down(2) -> residual(2) -> up(2) -> final(k3)",
    "transposed": "conv(d8) -> down(2) -> transposed(2) -> final(k3)",
    "transposed 4": "conv(d8) -> down -> transposed(1,k4) -> final(k3)",
    "even kernels": "conv(d8,k4) -> reconv(32,d8,k2) -> spap(2,k2) -> final(k2)",
    "pyramids": "conv(d8) -> spap(4,gate=softmax) -> spap(2,gate=relu,post=true) -> spap(1,k1) -> final(k1)",
    "attention": "conv(d16) -> down -> attention(2) -> up -> final(k3)",
    "patches": "conv(d8,k4,s2,norm=none) -> conv(d16,k4,s2) -> conv(d16,k4,p1) -> final(k4,p1,channels=1)",
    "leaky": "conv(d8,activation=leaky_relu) -> residual(1,activation=leaky_relu) -> final(k3)",
}
NORMS = ("instance", "batch", "layer", "none", "demodulated", "pixel", "pixel_instance")


def network(layers: str, **changes) -> Network:
    parsed = parse(layers)
    last = parsed[-1]
    assert isinstance(last, Final)
    parsed[-1] = last.model_copy(update={"channels": last.channels or 4, "activation": last.activation or "tanh"})
    return Network(layers=tuple(parsed), **changes)


def kept_for_backward(built: LayerNetwork) -> float:
    """Numbers that autograd keeps for one more image, so without weights; what shares memory counts once."""
    totals = []
    for count in (1, 3):
        kept: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor, kept: dict[int, torch.Tensor] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage()._cdata] = tensor
            return tensor

        image = torch.rand(count, 4, 32, 32)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = built(image)
        kept.pop(image.untyped_storage()._cdata, None)  # the batch is there anyway
        totals.append(sum(tensor.untyped_storage().nbytes() // 4 for tensor in kept.values()))
        del result
    return (totals[1] - totals[0]) / 2


# The short form


def test_the_notes_line_is_read():
    layers = parse(NOTES)
    assert layers == [
        Resize(size=256), Conv(channels=64, kernel=7, stride=1), Spap(levels=5), Resize(size=512),
        Final(channels=4, kernel=7),
    ]  # fmt: skip


def test_repetitions_and_fields():
    assert parse("2*downsampleConv -> spap(3,k3,dilations=1/2/4,order=fine_to_coarse) -> return")[2] == Spap(
        levels=3, kernel=3, dilations=(1, 2, 4), order="fine_to_coarse"
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("conv(d8) -> spab(3) -> final", r"layer 2: 'spab\(3\)' is no layer.*spap"),
        ("conv(d8) -> conv(k3) -> final", r"layer 2 \(conv\(k3\)\): channels: field required"),
        ("conv(d8,q3) -> final", r"layer 1 \(conv\(d8,q3\)\): 'q3' is neither"),
        ("conv(d8) -> down(many) -> final", r"layer 2 .*'many' is neither"),
        ("conv(d0) -> final", r"layer 1 .*channels: input should be greater than or equal to 1"),
        ("", r"layer 1: '' is no layer"),
    ],
)
def test_what_is_no_layer_is_named_by_its_number(written, said):
    with pytest.raises(SpecError, match=said):
        loaded(TRANSLATION, **{"recipe.generator.layers": written})


# Shapes and weights


@pytest.mark.parametrize("layers", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("norm", NORMS)
def test_the_closed_form_is_the_built_network(layers, norm):
    """Shapes and parameters exactly, on the meta device; what is kept for the backward pass to 3 %."""
    section = network(layers, norm=norm)
    rows = trace(section, 4, 32)
    with torch.device("meta"):
        built = LayerNetwork(section, 4, 32)
    x = torch.empty(1, 4, 32, 32, device="meta")
    for row, layer in zip(rows, built.layers, strict=True):
        x = layer(x)
        assert tuple(x.shape) == (1, row.channels, row.side, row.side), row
        assert sum(parameter.numel() for parameter in layer.parameters()) == row.parameters, row
    on_cpu = LayerNetwork(section, 4, 32)
    if norm != "batch":  # as an instance's, but for running means
        kept = kept_for_backward(on_cpu)
        assert sum(row.kept for row in rows) == pytest.approx(kept, rel=0.03)


def test_a_size_that_cannot_be_is_named_by_its_layer():
    with pytest.raises(
        SpecError, match=r"recipe.generator.layers\[2\]: layer 3 \(final\) puts out 4 x 16 x 16, but the im"
    ):
        loaded(TRANSLATION, **{"recipe.generator.layers": "resize(16) -> conv(d8) -> final"})
    with pytest.raises(SpecError, match=r"layer 2 \(final\): 3 pixels cannot be reflected beyond the edge of 2"):
        loaded(TRANSLATION, **{"recipe.generator.layers": "resize(2) -> final(k7)"})
    with pytest.raises(SpecError, match=r"layer 2 \(up\): 7 channels cannot be halved"):
        loaded(TRANSLATION, **{"recipe.generator.layers": "conv(d7) -> up -> final"})
    with pytest.raises(SpecError, match=r"layer 1 \(spap\): a dilated kernel of 1 is a plain kernel of 1"):
        loaded(TRANSLATION, **{"recipe.generator.layers": "spap(2,k1,dilations=1/2) -> final"})
    with pytest.raises(SpecError, match=r"layer 1 \(conv\): a kernel of 4 with stride 3 cannot be centred"):
        loaded(TRANSLATION, **{"recipe.discriminator.layers": "conv(d8,k4,s3) -> final(k1)"})
    with pytest.raises(SpecError, match=r"layer 1 \(final\): a discriminator ends in a final layer without activation"):
        loaded(TRANSLATION, **{"recipe.discriminator.layers": "final(k4,activation=sigmoid)"})
    with pytest.raises(ShapeError, match="one pixel has no spread"):
        trace(network("resize(2) -> conv(d8,s2) -> final(k1)", border="zeros"), 4, 32)


def test_a_list_is_a_list_and_its_mistakes_have_their_place():
    layers = [{"kind": "conv", "channels": 8}, {"kind": "conv", "chanels": 8}, {"kind": "final"}]
    with pytest.raises(SpecError, match=r"recipe.generator.layers\[1\].chanels: unknown key") as refused:
        loaded(TRANSLATION, **{"recipe.generator.layers": layers})
    assert "did you mean: channels?" in str(refused.value)


# What layers do


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_centred_kernels_keep_a_picture_in_its_place(kernel, dilation):
    conv = PaddedConv(1, 1, kernel, "demodulated", Network(border="zeros"), dilation=dilation)
    torch.nn.init.ones_(conv.weight)
    impulse = torch.zeros(1, 1, 33, 33)
    impulse[0, 0, 16, 16] = 1
    seen = conv(impulse)[0, 0].detach()
    assert seen.shape == (33, 33)
    place = torch.arange(33.0) - 16
    assert abs(float((seen.sum(1) * place).sum() / seen.sum())) < 1e-5


def test_even_kernels_as_tensorflow_pads_them_move_it_by_half_a_pixel():
    conv = PaddedConv(1, 1, 2, "demodulated", Network(border="zeros", alignment="tensorflow"))
    torch.nn.init.ones_(conv.weight)
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1
    seen = conv(impulse)[0, 0].detach()
    assert float((seen.sum(1) * (torch.arange(9.0) - 4)).sum() / seen.sum()) == pytest.approx(-0.5)
    assert conv.shift_is_asked_for


def test_demodulated_filters_have_unit_norm_and_keep_the_variance():
    torch.manual_seed(0)
    block = LayerNetwork(network("conv(d64,k3) -> final", norm="demodulated"), 32, 16).layers[0]
    assert isinstance(block, Block)
    norm_O = demodulated(block.conv.weight.detach()).square().sum((1, 2, 3))
    assert torch.allclose(norm_O, torch.ones(64), atol=1e-4)
    out = block(torch.randn(8, 32, 16, 16)).detach()
    assert float(out.square().mean()) == pytest.approx(1, abs=0.1)  # the rectifier halves it, the gain doubles it


def test_a_spike_rescales_a_map_under_instance_norm_and_not_under_demodulation():
    """The mechanism of holes: what a few pixels do to all others."""
    torch.manual_seed(0)
    quiet = torch.randn(1, 8, 32, 32)
    spiked = quiet.clone()
    spiked[:, :, 4:6, 4:6] *= 200
    far = (slice(None), slice(None), slice(16, 32), slice(16, 32))
    for norm, changes in (("instance", True), ("demodulated", False)):
        block = LayerNetwork(network("conv(d8,k3) -> final", norm=norm), 8, 32).layers[0]
        with torch.no_grad():
            difference = (block(spiked) - block(quiet))[far].abs().mean() / block(quiet)[far].abs().mean()
        assert (float(difference) > 0.5) == changes, (norm, float(difference))


def test_pixel_norm_makes_every_pixel_as_strong():
    x = torch.randn(2, 8, 4, 4) * torch.rand(2, 1, 4, 4) * 100
    assert by_pixel(x).square().mean(1) == pytest.approx(torch.ones(2, 4, 4), abs=1e-4)


def test_a_pyramid_of_one_level_is_a_convolution_and_its_input():
    torch.manual_seed(0)
    built = LayerNetwork(network("spap(1,k1) -> final(k1)"), 4, 8)
    pyramid = built.layers[0]
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(pyramid(x), pyramid.branches[0](x) + x)


def test_dilations_widen_what_a_pyramid_sees():
    def reach(levels: int, kernel: int) -> int:
        torch.manual_seed(0)
        built = LayerNetwork(network(f"spap({levels},k{kernel}) -> final(k1)", norm="none", border="zeros"), 4, 33)
        x = torch.zeros(1, 4, 33, 33, requires_grad=True)
        built.layers[0](x + 0.1)[0, :, 16, 16].sum().backward()
        return int((x.grad[0].abs().sum(0) > 0).any(0).sum())

    assert [reach(1, 3), reach(3, 3), reach(3, 1)] == [3, 7, 1]


def test_orders_of_a_pyramid_differ():
    x = torch.randn(1, 4, 16, 16)
    results = []
    for order in ("coarse_to_fine", "fine_to_coarse"):
        torch.manual_seed(0)
        results.append(LayerNetwork(network(f"spap(3,order={order}) -> final(k1)"), 4, 16).layers[0](x))
    assert not torch.allclose(*results)


def test_attention_starts_as_nothing_and_sees_everything():
    torch.manual_seed(0)
    layer = LayerNetwork(network("attention(2) -> final(k1)"), 16, 8).layers[0]
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(layer(x), x)
    torch.nn.init.ones_(layer.gain)
    changed = x.clone()
    changed[:, :, 0, 0] += 5
    assert not torch.allclose(layer(changed)[:, :, 7, 7], layer(x)[:, :, 7, 7])
    parts = F.linear(x.flatten(2).transpose(1, 2), layer.read).chunk(3, dim=2)
    q, k, v = (part.unflatten(2, (2, -1)).transpose(1, 2) for part in parts)
    by_hand = ((q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3) @ v).transpose(1, 2).flatten(2)
    expected = x + F.linear(by_hand, layer.project).transpose(1, 2).reshape(x.shape)
    assert torch.allclose(layer(x), expected, atol=1e-5)
