"""Every way for a style to enter a convolution, against loops over images, and against what each way promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.networks.injection import AdaConv, Modulation, StyleMatrix
from jobs.networks.per_sample import styled_convolve
from jobs.networks.styled import StyledConv, injected
from jobs.networks.synthesis import Synthesis
from jobs.spec import injection as spec
from tests.test_networks import FP32, multiplied, shape

ROWS = {"kind": "style_matrix", "k": 4}
EVERY = [
    {"kind": "adain_sg2"},
    {"kind": "adain_sg2", "gain": "sqrt_d", "fused": True},
    ROWS,
    {**ROWS, "k": 1},
    {**ROWS, "k": 64, "demod_on": "both"},
    {**ROWS, "layout": "lowrank", "gain": "learned"},
    {**ROWS, "kernel": 3, "center": 1.0},
    {**ROWS, "baked": False, "plus_identity": False, "gain": "times_sqrt_c"},
    {"kind": "adaconv", "descriptor": 16, "demod_on": "both", "baked": True, "fused": True},
    {"kind": "adaconv", "descriptor": 16},
    {"kind": "adaconv", "descriptor": 16, "kernel": 1, "group_channels": 2, "normalize": "instance"},
]


def section(**values) -> spec.AdaIN | spec.StyleMatrix | spec.AdaConv:
    return shape(injection=values).injection


def reference(x, weight, style, *, up: bool, demodulate: bool):
    """conv(W, S·x) as printed: one image at a time; a style of three taps may look at zeros around the picture."""
    kernel, side = weight.shape[-1], style.shape[-1]
    outputs = []
    for image, s in zip(x, style, strict=True):
        rim = side - 1 if up else (kernel - 1 + side - 1) // 2
        mixed = F.conv2d(F.pad(image[None], [rim * (side > 1)] * 4), s)
        if up:
            out = F.conv_transpose2d(mixed, weight.transpose(0, 1), stride=2)
            out = out[:, :, rim : out.shape[2] - rim, rim : out.shape[3] - rim]
        else:
            out = F.conv2d(mixed, weight, padding=0 if side > 1 else kernel // 2)
        if demodulate:
            out = out / (squared_filters(weight, s[:, : weight.shape[1]], up) + 1e-8).sqrt()[None, :, None, None]
        outputs.append(out)
    return torch.cat(outputs)


def squared_filters(weight, s, up: bool):
    """Σ_iu (W∘S)², each filter found by what both convolutions do to single pixels far from any border."""
    inputs, middle = s.shape[1], 8
    pixel = torch.zeros(inputs, inputs, 17, 17, dtype=s.dtype)
    pixel[range(inputs), range(inputs), middle, middle] = 1
    mixed = F.conv2d(pixel, s, padding=s.shape[-1] // 2)
    if up:
        return F.conv_transpose2d(mixed, weight.transpose(0, 1), stride=2).square().sum(dim=(0, 2, 3))
    return F.conv2d(mixed, weight, padding=weight.shape[-1] // 2).square().sum(dim=(0, 2, 3))


@given(
    count=st.integers(1, 3), inputs=st.integers(1, 5), outputs=st.integers(1, 4), pixels=st.integers(3, 6),
    kernel=st.sampled_from([1, 3]), side=st.sampled_from([1, 3]), up=st.booleans(), demodulate=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_baked_and_fused_are_the_same_function_as_one_after_the_other(  # noqa: PLR0917
    count, inputs, outputs, pixels, kernel, side, up, demodulate, seed
):
    if up:
        kernel = 3
    torch.manual_seed(seed)
    x = torch.randn(count, inputs, pixels, pixels, requires_grad=True)
    weight = torch.randn(outputs, inputs, kernel, kernel, requires_grad=True)
    style = torch.randn(count, inputs, inputs, side, side, requires_grad=True)
    ways = [
        multiplied(styled_convolve(x, weight, style, up=up, baked=baked, fused=fused, demodulate=demodulate))
        for baked, fused in ((False, False), (True, False), (True, True))
    ]
    theirs = reference(*(t.double() for t in (x, weight, style)), up=up, demodulate=demodulate)
    probe = torch.randn_like(ways[0])
    expected = torch.autograd.grad((theirs * probe.double()).sum(), [x, weight, style])
    for ours in ways:
        torch.testing.assert_close(ours, theirs.float(), atol=1e-4, rtol=1e-4)
        for gradient, other in zip(
            torch.autograd.grad((ours * probe).sum(), [x, weight, style]), expected, strict=True
        ):
            scale = max(1.0, other.abs().max().item())
            torch.testing.assert_close(gradient / scale, other / scale, atol=1e-4, rtol=1e-4)


@given(
    kind=st.sampled_from(["adain_sg2", "rows", "lowrank", "adaconv"]), k=st.sampled_from([1, 2, 4, 8, 16]),
    inputs=st.sampled_from([4, 8]), outputs=st.integers(1, 5), kernel=st.sampled_from([1, 3]), up=st.booleans(),
    demod_on=st.sampled_from(["conv", "style", "both", "none"]), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_kind_is_the_same_baked_or_not_and_fused_or_not(kind, k, inputs, outputs, kernel, up, demod_on, seed):
    torch.manual_seed(seed)
    if kind == "adain_sg2":
        values = {"kind": kind, "demod_on": "conv" if demod_on in ("conv", "both") else "none"}
        ways = [{"fused": False}, {"fused": True}]
    else:
        matrix = {"kind": "style_matrix", "k": k, "layout": kind}
        values = {"kind": kind, "descriptor": 4} if kind == "adaconv" else matrix
        values |= {"kernel": kernel, "demod_on": demod_on}
        ways = [{"baked": False}, {"baked": True}, {"baked": True, "fused": True}]
    layer = injected(section(**values), inputs, 6, 16)
    vectors = spec.vectors(layer.section)
    x = torch.randn(3, inputs, 5, 5, requires_grad=True)
    weight = torch.randn(outputs, inputs, 3, 3, requires_grad=True)
    w = torch.randn(3, vectors, 6, requires_grad=True)
    leaves = [x, weight, w, *layer.parameters()]
    results = []
    for way in ways:
        layer.section = layer.section.model_copy(update=way)
        out = multiplied(layer(x, weight, w, gain=0.5, demodulate=True, up=up))
        slope = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
        gradients = torch.autograd.grad((out * slope).sum(), leaves, allow_unused=True)
        results.append([out, *(g for g in gradients if g is not None)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            scale = max(1.0, one.abs().max().item())
            torch.testing.assert_close(one / scale, two / scale, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("values", EVERY, ids=str)
@pytest.mark.parametrize("up", [False, True])
def test_demodulated_convolutions_keep_unit_variance(values, up: bool):
    """Input maps are independent and of unit variance, as the promise supposes; borders see zeros, so they are left."""
    torch.manual_seed(0)
    chosen = section(**values)
    if chosen.demod_on == "none" or (isinstance(chosen, spec.AdaConv) and chosen.demod_on == "style"):
        pytest.skip("promises nothing for the whole convolution")
    layer = StyledConv(shape(style=32, injection=values), 64, 128, 32 if up else 16, up=up)
    with torch.no_grad():
        x, w = torch.randn(16, 64, 16, 16), torch.randn(16, spec.vectors(chosen), 32)
        out = multiplied(layer.injection(x, layer.weight, w, gain=layer.gain, demodulate=True, up=False))
    assert out[:, :, 3:-3, 3:-3].std().item() == pytest.approx(1.0, abs=0.05)


def test_adaconv_keeps_unit_variance_on_the_average_of_styles():
    torch.manual_seed(0)
    layer = StyledConv(shape(style=32, injection={"kind": "adaconv", "descriptor": 16}), 64, 128, 16)
    with torch.no_grad():
        x, w = torch.randn(64, 64, 16, 16), torch.randn(64, 1, 32)
        out = multiplied(layer.injection(x, layer.weight, w, gain=layer.gain, demodulate=True, up=False))
    assert out[:, :, 3:-3, 3:-3].std().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("inputs", [64, 256])
@pytest.mark.parametrize(
    ("gain", "identity", "kernel", "expected"),
    [
        (1.0, False, 1, math.sqrt),
        ("over_sqrt_c", False, 1, lambda _: 1.0),
        ("over_sqrt_c", False, 3, lambda _: 1.0),
        ("over_sqrt_c", True, 1, lambda _: math.sqrt(2)),
        ("times_sqrt_c", False, 1, lambda inputs: inputs),
    ],
)
def test_the_variance_arithmetic_of_a_style_matrix(inputs, gain, identity, kernel, expected):
    """Unit-variance entries multiply the deviation by √C; divided by √C they keep it; with the identity it is √2."""
    torch.manual_seed(0)
    values = section(
        kind="style_matrix", k=inputs, gain=gain, plus_identity=identity, kernel=kernel, demod_on="none"
    )  # fmt: skip
    layer = StyleMatrix(values, inputs, 48)
    with torch.no_grad():
        style = layer.matrix(torch.randn(24, inputs, 48))
        x = torch.randn(24, inputs, 9, 9)
        out = torch.cat([F.conv2d(image[None], s) for image, s in zip(x, style, strict=True)])
    assert out.std().item() == pytest.approx(expected(inputs), rel=0.05)


@pytest.mark.parametrize("k", [16, 512])
def test_averaging_vectors_shrinks_a_style_by_the_root_of_their_number(k):
    """Which gains of √D and of k make up for."""
    torch.manual_seed(0)
    assert torch.randn(4000, k).mean(dim=1).std().item() == pytest.approx(1 / math.sqrt(k), rel=0.05)


def test_rows_and_lowrank_are_what_they_are_called():
    torch.manual_seed(0)
    rows = StyleMatrix(section(**ROWS, plus_identity=False), 8, 6)
    w = torch.randn(2, 4, 6)
    matrix = rows.matrix(w)[:, :, :, 0, 0]
    torch.testing.assert_close(matrix[:, :4], matrix[:, 4:])  # row j is vector j mod 4
    torch.testing.assert_close(matrix[:, 1], rows.affine(w[:, 1]) / math.sqrt(8))
    gate = StyleMatrix(section(**{**ROWS, "k": 1}, plus_identity=False), 8, 6).matrix(w[:, :1])[0, :, :, 0, 0]
    assert torch.linalg.matrix_rank(gate) == 1
    lowrank = StyleMatrix(section(**ROWS, layout="lowrank", gain=0.5), 8, 6)
    x = torch.randn(2, 8, 1)
    spoken = lowrank.affine(w) @ x * 0.5  # f · S x
    expected = x + lowrank.basis.t() @ spoken / math.sqrt(4)  # x + f/√K · Vᵀ(S x)
    torch.testing.assert_close(lowrank.matrix(w)[:, :, :, 0, 0] @ x, expected)


def test_gains_amplify_the_departure_from_where_a_style_starts():
    torch.manual_seed(0)
    layer = Modulation(section(kind="adain_sg2", gain="sqrt_d"), 4, 9)
    x, w = torch.randn(2, 4, 3, 3), torch.randn(2, 1, 9)
    style = 1 + 3 * (layer.affine(w[:, 0]) - 1)
    ours = multiplied(layer(x, torch.eye(4)[:, :, None, None], w, gain=1.0, demodulate=False, up=False))
    torch.testing.assert_close(ours, x * style[:, :, None, None])
    for gain, factor in (("k", 4.0), ("sqrt_d_over_k", 3 / 4), ("over_sqrt_c", 8**-0.5), ("learned", 8**-0.5)):
        assert StyleMatrix(section(**ROWS, gain=gain), 8, 9).amplify.factor == pytest.approx(factor)


def test_adaconv_predicts_a_depthwise_and_a_pointwise_kernel_and_a_bias():
    torch.manual_seed(0)
    layer = AdaConv(section(kind="adaconv", descriptor=6, group_channels=2, normalize="none"), 4, 5, 16)
    torch.nn.init.normal_(layer.bias.weight)
    x, w, weight = torch.randn(1, 4, 7, 7), torch.randn(1, 1, 5), torch.randn(3, 4, 1, 1)
    depthwise, pointwise, bias = layer.kernels(w[:, 0])
    y = F.conv2d(x, depthwise[0], padding=1, groups=2)
    y = F.conv2d(y, pointwise[0], groups=2) + bias[0][:, None, None]
    ours = multiplied(layer(x, weight, w, gain=1.0, demodulate=False, up=False))
    torch.testing.assert_close(ours, F.conv2d(y, weight))


def test_second_derivatives_are_right():
    """Path length regularisation differentiates all of this twice."""
    torch.manual_seed(0)
    for values in ({**ROWS, "k": 2, "kernel": 3}, {"kind": "adaconv", "descriptor": 2, "baked": True}):
        layer = injected(section(**values), 2, 2, 8).double()
        x, weight, w = (
            torch.randn(size, dtype=torch.float64, requires_grad=True)
            for size in ((1, 2, 3, 3), (1, 2, 3, 3), (1, spec.vectors(layer.section), 2))
        )
        for up in (False, True):
            assert torch.autograd.gradgradcheck(
                lambda x, weight, w, layer=layer, up=up: multiplied(
                    layer(x, weight, w, gain=0.5, demodulate=True, up=up)
                ),
                (x, weight, w),
                atol=1e-4,
            )


@pytest.mark.parametrize("values", EVERY, ids=str)
@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_lower_precision_computes_the_same_function(values, name: str):
    torch.manual_seed(0)
    dtype = torch.bfloat16 if name == "bf16" else torch.float16
    layer = StyledConv(shape(style=8, noise="off", injection=values), 16, 16, 16, up=True)
    x, w = torch.randn(2, 16, 8, 8), torch.randn(2, spec.vectors(layer.injection.section), 8)
    exact, rough = layer(x, w), layer(x.to(dtype), w).float()
    assert ((exact - rough).norm() / exact.norm()).item() < 0.05


@pytest.mark.parametrize("values", [v for v in EVERY if v["kind"] != "adain_sg2"], ids=str)
@pytest.mark.parametrize("resolution", [4, 16])
def test_gradients_of_a_whole_network_do_not_depend_on_baking(values, resolution):
    """Layers in a row hand each other tensors of every memory layout, and an image its gradient alone."""
    torch.manual_seed(0)
    values = {**values, "k": min(values["k"], 16)} if "k" in values else values
    network = Synthesis(shape(style=16, base=128, most=16, injection=values), resolution, 3, FP32)
    styles = torch.randn(3, network.styles * network.vectors, 16)
    slope = torch.randn(3, 3, resolution, resolution)

    def gradient(chosen: slice, **way) -> torch.Tensor:
        for module in network.modules():
            if isinstance(module, StyleMatrix | AdaConv):
                module.section = module.section.model_copy(update=way)
        w = styles[chosen].clone().requires_grad_(True)
        return torch.autograd.grad((network(w, noise_scale=0.0) * slope[chosen]).sum(), w)[0]

    expected = gradient(slice(None), baked=False, fused=False)
    scale = expected.abs().max()
    for way in ({"baked": True, "fused": False}, {"baked": True, "fused": True}):
        torch.testing.assert_close(gradient(slice(None), **way) / scale, expected / scale, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(gradient(slice(1, 2), **way) / scale, expected[1:2] / scale, atol=1e-4, rtol=1e-4)
