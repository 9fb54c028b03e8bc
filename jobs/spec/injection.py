"""The section `generator.injection`: how a style enters a convolution.

    injection: {kind: style_matrix, k: 16, layout: rows, gain: over_sqrt_c, plus_identity: true}

A styled layer has C input maps and reads K vectors of w, each of size D (`generator.style`). What they become, S, acts
on the input of the layer's learned convolution W.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal, assert_never

from pydantic import Field

from jobs.spec.base import Section
from jobs.spec.yaml_tree import Path

Gain = Annotated[float, Field(gt=0)] | Literal["sqrt_d", "k", "sqrt_d_over_k", "times_sqrt_c", "over_sqrt_c", "learned"]
"""f: a number; √D; K; √D/K; √C; 1/√C (of a predicted 3x3: 1/√(9·C)); or learned, from the kind's own default on."""

DemodOn = Literal["conv", "style", "both", "none"]
_DEMOD = (
    "What is brought to unit norm. conv: each filter of W∘S (StyleGAN2's demodulation); style: each row of S, or each "
    "predicted kernel; to-RGB layers are never demodulated on conv"
)
_FUSED = "Demodulation inside the weights of each sample, instead of a factor on the output; equal up to rounding"
_BAKED = "Compute conv(W∘S, x) with weights for each sample, instead of conv(W, S·x); equal up to rounding"


class AdaIN(Section):
    """StyleGAN2's modulated convolution: one vector, S = diag(1 + f·(s - 1)), s an affine map that starts around 1."""

    kind: Literal["adain_sg2"] = "adain_sg2"
    gain: Gain = Field(1.0, description="f: how strongly styles depart from 1")
    demod_on: DemodOn = Field("conv", description=f"{_DEMOD}; here conv or none")
    fused: bool | Literal["auto"] = Field(
        False,
        description="Weights for each sample, demodulation inside, instead of one convolution between two scalings; "
        "equal up to rounding. auto: each layer the faster way, measured once on a device and kept with the run",
    )


class StyleMatrix(Section):
    """K vectors a layer, each through one affine map D -> C, make a matrix that mixes the C input maps."""

    kind: Literal["style_matrix"] = "style_matrix"
    k: int | None = Field(
        None, ge=1, le=4096, description="Vectors a layer; default: as many as the widest layer has maps (K = C)"
    )
    layout: Literal["rows", "lowrank"] = Field(
        "rows", description="rows: row j of S is vector j mod K. lowrank: S = VᵀA/√K, A the K vectors, V [K, C] learned"
    )
    gain: Gain = Field("over_sqrt_c", description="f: S = center + f·A(w), identity not counted; over_sqrt_c keeps std")
    plus_identity: bool = Field(True, description="Add the identity matrix to S")
    center: float = Field(0.0, description="Value around which the entries made of w lie, before the identity")
    demod_on: DemodOn = Field("conv", description=_DEMOD)
    kernel: Literal[1, 3] = Field(1, description="Side of the predicted kernel: 1 is a matrix, 3 one for each tap")
    baked: bool = Field(True, description=_BAKED)
    fused: bool = Field(False, description=f"{_FUSED}; asks for baked")


class AdaConv(Section):
    """A descriptor of one vector predicts a depthwise kernel, a pointwise kernel and a bias (Chandran et al. 2021).

    With one channel a group, the pointwise part is a factor for each channel.
    """

    kind: Literal["adaconv"] = "adaconv"
    descriptor: int = Field(64, ge=1, le=1024, description="Channels of the descriptor that each layer makes of w")
    kernel: Literal[1, 3] = Field(3, description="Side of the descriptor and of the predicted depthwise kernel")
    group_channels: Annotated[int, Field(ge=1, le=1024)] | Literal["rising"] = Field(
        "rising", description="Channels that a predicted kernel mixes; rising: 1, 2, 4, 8 from 4x4 pixels upwards"
    )
    normalize: Literal["second_moment", "instance", "none"] = Field(
        "second_moment",
        description="Of the input: each image to unit second moment, each map to mean 0 and std 1, or not",
    )
    demod_on: DemodOn = Field("style", description=_DEMOD)
    baked: bool = Field(False, description=_BAKED)
    fused: bool = Field(False, description=f"{_FUSED}; asks for baked")


Injection = Annotated[AdaIN | StyleMatrix | AdaConv, Field(discriminator="kind")]


def vectors(injection: Injection) -> int:
    """K: vectors of w that a styled layer reads."""
    match injection:
        case StyleMatrix():
            assert injection.k is not None, "a resolved spec"
            return injection.k
        case AdaIN() | AdaConv():
            return 1
        case _:
            assert_never(injection)


def group_channels(injection: AdaConv, inputs: int, size: int) -> int:
    """Of `inputs` maps at `size` pixels, how many a predicted kernel mixes: 1, 2, 4, 8 from 4x4 on, unless written."""
    if injection.group_channels == "rising":
        return math.gcd(min(max(size // 4, 1), 8), inputs)
    return injection.group_channels


def conflicts(injection: Injection, layers: list[tuple[int, int]]) -> Iterator[tuple[Path, str]]:
    """What cannot work in layers of (input maps, pixels), with the path of the key to change below `injection`."""
    match injection:
        case AdaIN():
            if injection.demod_on in ("style", "both"):
                yield (
                    ("demod_on",),
                    f"{injection.demod_on} brings rows of a style matrix to unit norm, but the style of adain_sg2 is "
                    "no matrix: one factor a map, which would become 1; use conv or none, or kind: style_matrix",
                )
        case StyleMatrix():
            yield from _fused_asks_for_baked(injection)
            widths = sorted({inputs for inputs, _ in layers})
            bad = [width for width in widths if max(width, vectors(injection)) % min(width, vectors(injection))]
            if injection.layout == "rows" and bad:
                yield (
                    ("k",),
                    f"row j of the style is vector j mod k, so {injection.k} must divide the maps of every layer, or "
                    f"be a multiple of them; there are layers of {', '.join(map(str, bad))}; or use layout: lowrank",
                )
        case AdaConv():
            yield from _fused_asks_for_baked(injection)
            for inputs, size in layers:
                if inputs % (channels := group_channels(injection, inputs, size)):
                    message = (
                        f"groups of {channels} channels do not divide the {inputs} maps of the {size}x{size} layer"
                    )
                    yield ("group_channels",), message
                    return
        case _:
            assert_never(injection)


def _fused_asks_for_baked(injection: StyleMatrix | AdaConv) -> Iterator[tuple[Path, str]]:
    if injection.fused and not injection.baked:
        yield (
            ("fused",),
            "fused puts demodulation into the weights of each sample, and only baked: true makes such weights",
        )
