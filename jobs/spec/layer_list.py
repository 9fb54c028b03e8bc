"""Networks as ordered lists of typed layers.

    layers:
      - {kind: resize, size: 32}
      - {kind: conv, channels: 16, kernel: 7}
      - {kind: spap, levels: 3}
      - {kind: reconv, size: 64, channels: 16}
      - {kind: final}

or, in short (jobs/spec/arrows.py): `layers: "resize(32) -> conv2d(d16,k7) -> spap(3) -> reconv(64,d16) -> final"`.
Every convolution is followed by its normaliser and its activation; both are the network's where the layer says nothing.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from jobs.spec.base import Section

NormName = Literal["instance", "batch", "layer", "none", "demodulated", "pixel", "pixel_instance"]
"""instance, batch, layer: by the maps' own statistics. demodulated: each filter divided by its L2 norm, so by expected
statistics (Karras et al. 2020, section 2.2, without a style). pixel: each pixel divided by its root mean square over
channels. pixel_instance: pixel, then instance."""
ActivationName = Literal["relu", "leaky_relu", "tanh", "sigmoid", "none"]
Border = Literal["reflect", "zeros", "replicate"]
Alignment = Literal["centred", "tensorflow"]
Gate = Literal["relu", "sigmoid", "softmax"]
Channels = Annotated[int, Field(ge=1, le=8192)]
Kernel = Annotated[int, Field(ge=1, le=31)]
Side = Annotated[int, Field(ge=1, le=4096)]
Count = Annotated[int, Field(ge=1, le=64)]


class _Layer(Section):
    norm: NormName | None = Field(None, description="Its normaliser; default: the network's")
    activation: ActivationName | None = Field(None, description="Its activation; default: the network's")


class Resize(Section):
    """Another size, nothing learned."""

    kind: Literal["resize"] = "resize"
    size: Side = Field(description="Width and height afterwards")
    mode: Literal["nearest", "bilinear", "area"] = "nearest"


class Conv(_Layer):
    """Convolution."""

    kind: Literal["conv"] = "conv"
    channels: Channels
    kernel: Kernel = 3
    stride: int = Field(1, ge=1, le=8)
    padding: Annotated[int, Field(ge=0, le=64)] | Literal["same"] = Field(
        "same", description="Pixels on each side; same: the size divided by the stride, the picture in its place"
    )


class Down(_Layer):
    """Convolutions with stride 2, each with twice the channels."""

    kind: Literal["down"] = "down"
    count: Count = 1
    kernel: Kernel = 3


class Up(_Layer):
    """Resize-convolutions to twice the size, each with half the channels: nearest neighbours, then a convolution."""

    kind: Literal["up"] = "up"
    count: Count = 1
    kernel: Kernel = 3


class Transposed(_Layer):
    """Transposed convolutions to twice the size, each with half the channels (as published with CycleGAN)."""

    kind: Literal["transposed"] = "transposed"
    count: Count = 1
    kernel: Literal[3, 4] = 3


class Reconv(_Layer):
    """A resize-convolution: nearest neighbours to `size`, then a convolution."""

    kind: Literal["reconv"] = "reconv"
    size: Side
    channels: Channels
    kernel: Kernel = 3


class Residual(_Layer):
    """Residual blocks x + conv(conv(x)); only the first convolution of each is activated (He et al. 2016)."""

    kind: Literal["residual"] = "residual"
    count: Count = 1
    kernel: Kernel = 3


class Spap(_Layer):
    """Spatial pyramid attentive pooling (Sun and Wu 2019): branches of growing dilation, fused pair by pair by gates.

    Branch l: convolution with the l-th dilation. Fusing a and b: n = gate(norm(conv1x1(a, b))), then n·a + n·b, or with
    softmax n·a + (1 - n)·b. The input is added at the end.
    """

    kind: Literal["spap"] = "spap"
    levels: int = Field(3, ge=1, le=8)
    kernel: Kernel = Field(3, description="Of the branches; with 1 no dilation has an effect, so none is allowed")
    dilations: tuple[Annotated[int, Field(ge=1, le=64)], ...] | None = Field(
        None, description="One a level, the first is the finest; default 1, 2, 3 ..., with kernel 1 all 1"
    )
    order: Literal["coarse_to_fine", "fine_to_coarse"] = Field(
        "coarse_to_fine", description="Which branch the fusing begins with"
    )
    gate: Gate = Field("sigmoid", description="relu is not bounded, and multiplies what is large by what is large")
    post: bool = Field(False, description="Normalise and activate the sum at the end (experiment 4.2 of the diary)")


class Attention(Section):
    """Self-attention over all pixels, added to its input with a learned gain that starts at 0 (Zhang et al. 2019)."""

    kind: Literal["attention"] = "attention"
    heads: int = Field(1, ge=1, le=32)


class Final(Section):
    """The last convolution: neither normalised nor demodulated."""

    kind: Literal["final"] = "final"
    channels: Channels | None = Field(
        None, description="Default: a generator's are the image's, a discriminator has one map of logits"
    )
    kernel: Kernel = 7
    stride: int = Field(1, ge=1, le=8)
    padding: Annotated[int, Field(ge=0, le=64)] | Literal["same"] = "same"
    activation: ActivationName | None = Field(None, description="Default: a generator's tanh, a discriminator's none")


AnyLayer = Conv | Resize | Down | Up | Transposed | Reconv | Residual | Spap | Attention | Final
Layer = Annotated[AnyLayer, Field(discriminator="kind")]


def _from_text(value: Any) -> Any:
    """The short form is read into the list that it stands for."""
    from jobs.spec.arrows import parse  # it reads the layers above

    return parse(value) if isinstance(value, str) else value


LayerList = Annotated[tuple[Layer, ...], Field(min_length=1, max_length=200), BeforeValidator(_from_text)]


class Network(Section):
    """A network from its layers."""

    layers: LayerList | None = Field(
        None, description="A list of layers, or its short form with arrows; default from the preset"
    )
    norm: NormName = Field("instance", description="Normaliser of every layer that does not say its own")
    activation: ActivationName = Field("relu", description="Activation of every layer that does not say its own")
    border: Border = Field("reflect", description="What a padded convolution sees beyond the edge")
    alignment: Alignment = Field(
        "centred",
        description="Of even kernels with stride 1. centred: the mean of both placements, so a picture stays in its "
        "place. tensorflow: padded on the right and below only, which moves it by half a pixel",
    )


def text(layer: AnyLayer) -> str:
    """The layer in the short form, but for what the network says."""
    fields = {name: value for name, value in layer if name != "kind" and value is not None}
    parts = []
    for name, value in fields.items():
        match name, value:
            case "channels" | "kernel" | "stride", _:
                parts.append(f"{ {'channels': 'd', 'kernel': 'k', 'stride': 's'}[name] }{value}")
            case "size" | "count" | "levels" | "heads", _:
                parts.append(str(value))
            case "padding", "same":
                pass
            case "dilations", tuple():
                parts.append("dilations=" + "/".join(str(dilation) for dilation in value))
            case _ if value != type(layer).model_fields[name].default:
                parts.append(f"{name}={value}")
    return f"{layer.kind}({','.join(parts)})"
