"""Networks against independent references: textbook convolutions, upfirdn by zero insertion, closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import signal

from jobs import recipes
from jobs.networks import resample
from jobs.networks.discriminator import Discriminator, judged_both, minibatch_stddev
from jobs.networks.equalized import Conv, Dense, RectifiedDense, rectified
from jobs.networks.injection import modulated_conv
from jobs.networks.mapping import MappingNetwork, mean_vector, normalize_second_moment
from jobs.networks.precision import Precision
from jobs.networks.resample import Resample
from jobs.networks.styled import StyledConv
from jobs.networks.synthesis import Synthesis
from jobs.spec import load, stylegan2_size
from jobs.spec.stylegan2 import Generator
from jobs.training.recipe import Known

FP32 = Precision("fp32", 32)


def shape(architecture="skip", base=64, most=8, style=4, noise="random", **section) -> Generator:
    """A resolved generator section."""
    present = "all" if architecture == "skip" else "last"
    return Generator(
        architecture=architecture, channels_base=base, channels_max=most, style=style, latent=style,
        noise={"mode": noise}, to_rgb={"present": present}, mapping={"layers": 2}, **section,
    )  # fmt: skip


def upfirdn(x: np.ndarray, up: int, down: int, padding: tuple[int, int], gain: float) -> np.ndarray:
    """The definition, by scipy in float64: zeros between and around, the outer product filter, every down-th value."""
    taps = np.array([1.0, 3.0, 3.0, 1.0])
    filter_ = np.outer(taps, taps) / 64 * gain**2
    stretched = np.zeros([len(x) * up] * 2)
    stretched[::up, ::up] = x
    padded = np.pad(stretched, [padding, padding])
    return signal.convolve2d(padded, filter_, mode="valid")[::down, ::down]


@given(
    size=st.sampled_from([1, 2, 4, 7, 8, 16]),
    up=st.sampled_from([1, 2]),
    down=st.sampled_from([1, 2]),
    padding=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    gain=st.sampled_from([1.0, 2.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_resampling_is_upfirdn(size, up, down, padding, gain, seed):
    assume(size * up + sum(padding) >= len(resample.TAPS))
    x = np.random.default_rng(seed).normal(size=(size, size))
    expected = upfirdn(x, up, down, padding, gain)
    layer = Resample(size, up=up, down=down, padding=padding, gain=gain)
    planar = torch.from_numpy(x).float()[None, None].expand(2, 3, -1, -1).contiguous()
    images = [planar, planar.contiguous(memory_format=torch.channels_last)]
    for image in [*images, *(image.double() for image in images)]:  # convolution and matrices
        out = layer(image)
        assert out.shape[:2] == (2, 3)
        np.testing.assert_allclose(out[1, 2].numpy(), expected, atol=1e-5)


def test_resampling_layers_have_the_sizes_and_gains_of_their_names():
    ones = torch.ones(1, 1, 8, 8)
    for layer, side in (
        (resample.upsample2(8), 16),
        (resample.downsample2(8), 4),
        (resample.blur_before_strided(8), 9),
    ):
        out = layer(ones)
        assert out.shape[-1] == side
        assert out[0, 0, side // 2, side // 2] == pytest.approx(1.0)  # a constant stays what it was inside
    assert resample.blur_after_transposed(8)(torch.ones(1, 1, 17, 17)).shape[-1] == 16


def multiplied(convolved):
    """With the factors that a layer applies together with its bias."""
    return convolved.scaled(1.0, torch.zeros((), dtype=convolved.x.dtype))


def per_sample_reference(x, weight, style, *, demodulate: bool, up: bool):
    """Equations 1 and 3 as printed: one weight tensor for each sample, in a loop."""
    outputs = []
    for image, s in zip(x, style, strict=True):
        w = weight * s[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            outputs.append(F.conv_transpose2d(image[None], w.transpose(0, 1), stride=2))
        else:
            outputs.append(F.conv2d(image[None], w, padding=w.shape[-1] // 2))
    return torch.cat(outputs)


@given(
    count=st.integers(1, 3), inputs=st.integers(1, 5), outputs=st.integers(1, 5), side=st.integers(2, 6),
    kernel=st.sampled_from([1, 3]), demodulate=st.booleans(), up=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_modulation_equals_weights_for_each_sample_with_gradients(
    count, inputs, outputs, side, kernel, demodulate, up, seed
):
    torch.manual_seed(seed)
    x = torch.randn(count, inputs, side, side, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(outputs, inputs, kernel, kernel, dtype=torch.float64, requires_grad=True)
    style = torch.randn(count, inputs, dtype=torch.float64, requires_grad=True)
    ours = multiplied(modulated_conv(x, weight, style, demodulate=demodulate, up=up))
    theirs = per_sample_reference(x, weight, style, demodulate=demodulate, up=up)
    torch.testing.assert_close(ours, theirs)
    probe = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad((ours * probe).sum(), [x, weight, style]),
        torch.autograd.grad((theirs * probe).sum(), [x, weight, style]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_second_derivatives_of_modulation_are_right():
    torch.manual_seed(0)
    arguments = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 2, 3, 3), (2, 2, 3, 3), (2, 2))
    ]
    assert torch.autograd.gradgradcheck(
        lambda x, w, s: multiplied(modulated_conv(x, w, s, demodulate=True, up=False)), arguments, atol=1e-4
    )


@pytest.mark.parametrize("up", [False, True])
def test_a_styled_convolution_keeps_unit_variance(up: bool):
    torch.manual_seed(0)
    layer = StyledConv(shape(style=32), 64, 128, 32 if up else 16, up=up)
    with torch.no_grad():
        style = layer.injection.affine(torch.randn(16, 32))
        x = torch.randn(16, 64, 16, 16)
        x = multiplied(modulated_conv(x, layer.weight * layer.gain, style, demodulate=True, up=False))
    assert x[:, :, 2:-2, 2:-2].std().item() == pytest.approx(1.0, abs=0.05)
    with torch.no_grad():
        out = layer(torch.randn(16, 64, 16, 16), torch.randn(16, 1, 32))
    assert out.shape == (16, 128, 32 if up else 16, 32 if up else 16)


def test_the_rectifier_keeps_the_second_moment_and_is_leaky():
    x = torch.randn(200_000)
    assert rectified(x * math.sqrt(2)).square().mean().item() == pytest.approx(1.04, abs=0.02)  # 2 · (1 + 0.2²) / 2
    assert rectified(torch.tensor(-math.sqrt(2))).item() == pytest.approx(-0.2 * math.sqrt(2))
    torch.testing.assert_close(rectified(x * math.sqrt(2)), F.leaky_relu(x, 0.2) * math.sqrt(2))
    assert rectified(torch.tensor(6e4).half()).item() == pytest.approx(256 * math.sqrt(2), rel=1e-3)


def test_a_rectified_dense_layer_is_the_dense_one_rectified_with_its_gain():
    layer = RectifiedDense(5, 4, bias=0.5, lr_multiplier=0.1)
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(layer(x), F.leaky_relu(Dense.forward(layer, x), 0.2) * math.sqrt(2))


def test_equalized_layers_scale_at_run_time():
    torch.manual_seed(0)
    dense = Dense(400, 300, bias=1.0, lr_multiplier=0.01)
    assert dense.weight.std().item() == pytest.approx(100, rel=0.05)  # stored N(0, 1/lr_multiplier)
    out = dense(torch.randn(500, 400))
    assert out.std().item() == pytest.approx(1.0, rel=0.05) and out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert Conv(64, 64, 3)(torch.randn(4, 64, 16, 16))[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1, rel=0.05)


def test_the_mapping_normalises_z_and_tracks_the_mean_of_w():
    torch.manual_seed(0)
    network = MappingNetwork(16, 8, 2, 0.01)
    z = torch.randn(32, 16)
    torch.testing.assert_close(network(z), network(z * 7))  # only the direction of z counts
    assert normalize_second_moment(z).square().mean(1).allclose(torch.ones(32), atol=1e-5)
    w = network(z)
    for _ in range(2000):
        network.track_average(mean_vector(w), 0.99)
    torch.testing.assert_close(network.w_average, w.mean(0), atol=1e-4, rtol=0)


def test_minibatch_stddev_is_the_published_statistic():
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    out = minibatch_stddev(x, 4)
    assert out.shape == (8, 4, 4, 4)
    groups = x.reshape(4, 2, 3, 4, 4)
    for index in range(8):
        expected = (groups[:, index % 2].var(0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(out[index, 3], expected.expand(4, 4))
    assert minibatch_stddev(x[:2], 4).shape == (2, 4, 4, 4)  # the group adapts to a smaller batch
    assert torch.isfinite(minibatch_stddev(torch.zeros(4, 1, 2, 2), 4)).all()
    apart = torch.cat([minibatch_stddev(x[:4], 2), minibatch_stddev(x[4:], 2)])
    torch.testing.assert_close(minibatch_stddev(x, 2, sets=2), apart)


@pytest.mark.parametrize("classes", [0, 3])
def test_two_batches_in_one_pass_are_judged_as_if_alone(classes):
    torch.manual_seed(0)
    D = Discriminator(
        16, 1, base=64, most=8, architecture="resnet", stddev_group=2, precision=Precision("fp32", 16), classes=classes
    )
    images, label = (torch.randn(4, 1, 16, 16), torch.randn(4, 1, 16, 16)), torch.arange(4) % 3 if classes else None
    for both, alone in zip(judged_both(D, images, label), (D(image, label) for image in images), strict=True):
        torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_generator_and_discriminator_shapes(architecture: str, resolution: int):
    torch.manual_seed(0)
    network = Synthesis(shape(architecture), resolution, 3, FP32)
    judge = Discriminator(
        resolution, 3, base=64, most=8, architecture=architecture, stddev_group=4, precision=FP32, classes=3
    )
    image = network(torch.randn(4, network.styles, 4))
    assert image.shape == (4, 3, resolution, resolution) and image.dtype == torch.float32
    logit = judge(image, torch.tensor([0, 1, 2, 0]))
    assert logit.shape == (4, 1)
    logit.sum().backward()
    unreached = [name for name, p in [*network.named_parameters(), *judge.named_parameters()] if p.grad is None]
    assert unreached == []


@pytest.mark.parametrize(("name", "tolerance"), [("bf16", 0.05), ("fp16", 0.01)])
def test_lower_precision_computes_the_same_function(name: str, tolerance: float):
    def output(precision: str) -> torch.Tensor:
        torch.manual_seed(0)
        network = Synthesis(shape(base=256, most=32, style=8, noise="off"), 16, 3, Precision(precision, 16))
        judge = Discriminator(
            16, 3, base=256, most=32, architecture="resnet", stddev_group=4, precision=Precision(precision, 16)
        )
        image = network(torch.randn(4, network.styles, 8))
        return torch.cat([image.flatten(), judge(image).flatten()])

    exact, rough = output("fp32"), output(name)
    assert ((exact - rough).norm() / exact.norm()).item() < tolerance
    assert (exact - rough).abs().max() > 0  # it really computes in another format


@pytest.mark.parametrize("generator", ["orig", "skip", "resnet"])
@pytest.mark.parametrize("discriminator", ["orig", "skip", "resnet"])
@pytest.mark.parametrize("conditional", [False, True])
def test_the_plan_counts_parameters_exactly(generator: str, discriminator: str, conditional: bool):
    job = load(
        f"""
name: count
recipe:
  kind: stylegan2
  conditional: {str(conditional).lower()}
  data: {{kind: folder, path: x, resolution: 32, channels: rgba, labels: {str(conditional).lower()}}}
  generator: {{architecture: {generator}, channels_base: 256, channels_max: 24, latent: 12, style: 20,
    mapping: {{layers: 3}}}}
  discriminator: {{architecture: {discriminator}, channels_max: 16}}
training: {{images: 100, batch: 4}}
""",
        "s",
    ).job
    classes = [5, 5, 5] if conditional else []
    recipe = recipes.build(job, Known(tuple(classes)), "fp32", torch.device("cpu"))
    built = {name: sum(p.numel() for p in network.parameters()) for name, network in recipe.networks.items()}
    assert stylegan2_size.size(job.recipe, len(classes)).parameters == built
