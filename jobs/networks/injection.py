"""How a style enters a convolution, one module a kind: (x, learned weight, the layer's K vectors of w) -> W∘S applied.

W is `gain` · `weight_OIKK` (the equalized learning rate), vectors are [N, K, D], and everything that is predicted is
computed in float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.networks.equalized import Conv, Dense, RectifiedDense
from jobs.networks.per_sample import Convolved, convolve, convolve_each, filter_norm, styled_convolve
from jobs.spec import injection as spec

EPSILON = 1e-8


class Amplifier(nn.Module):
    """center + f · deviation: how strongly styles depart from where they start."""

    def __init__(self, gain: spec.Gain, *, center: float, k: int, d: int, fan_in: int, learned_from: float) -> None:
        super().__init__()
        self.center = center
        self.factor = _factor(gain, k, d, fan_in, learned_from)
        self.learned = nn.Parameter(torch.ones([])) if gain == "learned" else None

    def forward(self, deviation: Tensor) -> Tensor:
        deviation = deviation * self.factor
        return self.center + (deviation if self.learned is None else deviation * self.learned)


def _factor(gain: spec.Gain, k: int, d: int, fan_in: int, learned_from: float) -> float:
    """f as a number; `learned` starts from `learned_from`."""
    match gain:
        case "sqrt_d":
            return math.sqrt(d)
        case "k":
            return float(k)
        case "sqrt_d_over_k":
            return math.sqrt(d) / k
        case "times_sqrt_c":
            return math.sqrt(fan_in)
        case "over_sqrt_c":
            return 1 / math.sqrt(fan_in)
        case "learned":
            return learned_from
        case _:
            return gain


def modulated_conv(x_NCHW: Tensor, weight_OIKK: Tensor, style_NI: Tensor, *, demodulate: bool, up: bool) -> Convolved:
    """Convolution with weights w'_oikk = s_i · w_oikk; with `demodulate`, w'' = w' / √(Σ_ikk w'² + ε) (Equations 1, 3).

    Scaling inputs by s and outputs by the demodulation factor around one shared convolution is the same function as
    weights for each sample, without N copies of them; and Σ_ikk (s_i w_oikk)² = (s²) · (Σ_kk w²)ᵀ is one small product.
    `up` gives 2S + 1 pixels by a transposed convolution (to be blurred to 2S). Style and weight are float32.
    """
    if x_NCHW.dtype == torch.float16:
        weight_OIKK, style_NI = _bounded(weight_OIKK, style_NI, demodulate=demodulate)
    x = x_NCHW * style_NI.to(x_NCHW.dtype)[:, :, None, None]
    x = convolve(x, weight_OIKK, up=up, padding=0 if up else weight_OIKK.shape[-1] // 2)
    if not demodulate:
        return Convolved(x, None)
    return Convolved(x, (style_NI.square() @ weight_OIKK.square().sum(dim=(2, 3)).t() + EPSILON).rsqrt())


def _bounded(weight: Tensor, style: Tensor, *, demodulate: bool) -> tuple[Tensor, Tensor]:
    """Divides by the largest magnitudes, which demodulation undoes, so that float16 does not overflow in between."""
    if not demodulate:
        return weight, style
    weight = weight * (weight[0].numel() ** -0.5 / weight.abs().amax(dim=(1, 2, 3), keepdim=True))
    return weight, style / style.abs().amax(dim=1, keepdim=True)


class Modulation(nn.Module):
    """StyleGAN2's: one vector makes one factor a map."""

    def __init__(self, section: spec.AdaIN, inputs: int, style: int) -> None:
        super().__init__()
        self.section = section
        self.fused = section.fused is True  # auto: decided by jobs/tuning.py
        self.affine = Dense(style, inputs, bias=1.0)
        plain = section.gain == 1.0
        self.amplify = (
            None if plain else Amplifier(section.gain, center=1.0, k=1, d=style, fan_in=inputs, learned_from=1.0)
        )

    def forward(
        self, x: Tensor, weight_OIKK: Tensor, w_NKD: Tensor, *, gain: float, demodulate: bool, up: bool
    ) -> Convolved:
        style_NI = self.affine(w_NKD.flatten(1))
        if self.amplify is not None:
            style_NI = self.amplify(style_NI - 1)  # s' = 1 + f · (s - 1)
        style_NI = style_NI * gain  # smaller than the weight
        demodulate = demodulate and self.section.demod_on == "conv"
        if not self.fused:
            return modulated_conv(x, weight_OIKK, style_NI, demodulate=demodulate, up=up)
        weight_NOIKK = weight_OIKK * style_NI[:, None, :, None, None]
        if demodulate:
            weight_NOIKK = weight_NOIKK * filter_norm(weight_NOIKK)[:, :, None, None, None]
        return Convolved(convolve_each(x, weight_NOIKK, up=up, padding=0 if up else weight_OIKK.shape[-1] // 2), None)


class StyleMatrix(nn.Module):
    """K vectors, each through one affine map, make a matrix (or a 3x3 kernel) that mixes the input maps."""

    identity: Tensor

    def __init__(self, section: spec.StyleMatrix, inputs: int, style: int) -> None:
        super().__init__()
        self.section, self.inputs, self.k = section, inputs, spec.vectors(section)
        taps = section.kernel**2
        fan_in = inputs * taps
        self.affine = Dense(style, fan_in)
        self.amplify = Amplifier(
            section.gain, center=section.center, k=self.k, d=style, fan_in=fan_in, learned_from=fan_in**-0.5
        )
        self.basis = nn.Parameter(torch.randn(self.k, inputs)) if section.layout == "lowrank" else None
        centre = torch.zeros(section.kernel, section.kernel)
        centre[section.kernel // 2, section.kernel // 2] = 1.0
        self.register_buffer("identity", torch.eye(inputs)[:, :, None, None] * centre, persistent=False)

    def matrix(self, w_NKD: Tensor) -> Tensor:
        """S [N, C, C, k, k]."""
        side = self.section.kernel
        if self.basis is None:  # row j is vector j mod K
            rows_NKI = self.amplify(self.affine(w_NKD[:, : self.inputs]))
            style = rows_NKI.repeat(1, self.inputs // rows_NKI.shape[1], 1)
        else:  # VᵀA/√K
            style = self.basis.t() @ self.amplify(self.affine(w_NKD)) / math.sqrt(self.k)
        style = style.unflatten(2, (self.inputs, side, side))
        if self.section.plus_identity:
            style = style + self.identity
        if self.section.demod_on in ("style", "both"):
            style = style * filter_norm(style)[:, :, None, None, None]
        return style

    def forward(
        self, x: Tensor, weight_OIKK: Tensor, w_NKD: Tensor, *, gain: float, demodulate: bool, up: bool
    ) -> Convolved:
        return styled_convolve(
            x,
            weight_OIKK * gain,
            self.matrix(w_NKD),
            up=up,
            baked=self.section.baked,
            fused=self.section.fused,
            demodulate=demodulate and self.section.demod_on in ("conv", "both"),
        )


class AdaConv(nn.Module):
    """A descriptor of w predicts a depthwise kernel, a pointwise kernel and a bias (Chandran et al. 2021)."""

    def __init__(self, section: spec.AdaConv, inputs: int, style: int, size: int) -> None:
        super().__init__()
        self.section, self.inputs = section, inputs
        self.channels = spec.group_channels(section, inputs, size)
        self.describe = RectifiedDense(style, section.descriptor * section.kernel**2)
        self.depthwise = Conv(section.descriptor, inputs * self.channels, section.kernel)
        self.pointwise = Dense(section.descriptor, inputs * self.channels)
        self.bias = Dense(section.descriptor, inputs)
        nn.init.zeros_(self.bias.weight)  # no bias at first, so that the maps keep their variance

    def kernels(self, w_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Depthwise [N, C, g, k, k], pointwise [N, C, g, 1, 1] and bias [N, C], for groups of g maps."""
        side, channels = self.section.kernel, self.channels
        descriptor = self.describe(w_ND).unflatten(1, (-1, side, side))
        pooled = descriptor.mean(dim=(2, 3))
        depthwise = self.depthwise(descriptor).unflatten(1, (self.inputs, channels))
        pointwise = self.pointwise(pooled).unflatten(1, (self.inputs, channels))[..., None, None]
        if self.section.demod_on in ("style", "both"):
            depthwise = depthwise * filter_norm(depthwise)[:, :, None, None, None]
            pointwise = pointwise * filter_norm(pointwise)[:, :, None, None, None]
        return depthwise, pointwise, self.bias(pooled)

    def forward(
        self, x: Tensor, weight_OIKK: Tensor, w_NKD: Tensor, *, gain: float, demodulate: bool, up: bool
    ) -> Convolved:
        """All three as one kernel over the maps and, for the bias, a map of ones."""
        depthwise, pointwise, bias_NC = self.kernels(w_NKD.flatten(1))
        groups = (-1, self.channels)
        mixing = torch.einsum(
            "ngab,ngbcij->ngacij", pointwise[..., 0, 0].unflatten(1, groups), depthwise.unflatten(1, groups)
        )
        style = torch.diag_embed(mixing.movedim(1, -1), dim1=1, dim2=3)  # [N, g, a, g, c, k, k]: blocks
        style = style.flatten(3, 4).flatten(1, 2)
        side = self.section.kernel
        centre = F.pad(bias_NC[:, :, None, None, None], [side // 2] * 4)
        x = torch.cat([self._normalized(x), torch.ones_like(x[:, :1])], dim=1)
        return styled_convolve(
            x,
            weight_OIKK * gain,
            torch.cat([style, centre], dim=2),
            up=up,
            baked=self.section.baked,
            fused=self.section.fused,
            demodulate=demodulate and self.section.demod_on in ("conv", "both"),
        )

    def _normalized(self, x: Tensor) -> Tensor:
        match self.section.normalize:
            case "second_moment":
                moment = x.to(torch.promote_types(x.dtype, torch.float32)).square().mean(dim=(1, 2, 3), keepdim=True)
                return x * (moment + EPSILON).rsqrt().to(x.dtype)
            case "instance":
                return F.instance_norm(x, eps=1e-5)
            case "none":
                return x
