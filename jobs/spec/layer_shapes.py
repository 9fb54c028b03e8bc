"""What a list of layers does to a picture, in closed form: shape, parameters and memory of each layer, without torch.

Tests hold every number against the built network on torch's meta device. `kept` counts the numbers that a layer keeps
for the backward pass, for one image: inputs of convolutions and what padding makes of them, inputs of normalisers, what
activations need. What two neighbours share is counted once.
"""

from dataclasses import dataclass, field
from typing import assert_never

from jobs.spec.layer_list import (
    ActivationName,
    Alignment,
    AnyLayer,
    Attention,
    Conv,
    Down,
    Final,
    Network,
    NormName,
    Reconv,
    Residual,
    Resize,
    Spap,
    Transposed,
    Up,
    text,
)


class ShapeError(ValueError):
    """A layer that cannot be; `index` counts from 0."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class Pads:
    """How a convolution pads each axis."""

    before: int
    after: int
    averaged: bool = False
    """One output too many, and the mean of neighbours taken: the two placements of an even kernel."""


@dataclass(frozen=True)
class LayerShape:
    """One layer: what it puts out, and what it weighs."""

    number: int
    """From 1."""
    text: str
    channels: int
    side: int
    parameters: int
    kept: int
    """Numbers kept for the backward pass of one image."""


def pads(kernel: int, stride: int, dilation: int, padding: "int | str", alignment: Alignment) -> Pads:
    """Padding of a convolution. Raises ValueError for an even kernel that no padding can centre."""
    reach = dilation * (kernel - 1)
    if isinstance(padding, int):
        return Pads(padding, padding)
    if reach % 2 == 0 and kernel % 2:
        return Pads(reach // 2, reach // 2)
    if stride > 1:
        if (kernel - stride) % 2 or kernel < stride:
            raise ValueError(f"a kernel of {kernel} with stride {stride} cannot be centred; write padding as a number")
        return Pads((kernel - stride) // 2, (kernel - stride) // 2)
    if reach % 2 == 0:
        return Pads(reach // 2, reach // 2)
    if alignment == "centred":
        return Pads((reach + 1) // 2, (reach + 1) // 2, averaged=True)
    return Pads(reach // 2, reach - reach // 2)


def demodulates(norm: NormName) -> bool:
    """Whether the weights are normalised, not the maps."""
    return norm == "demodulated"


def conv_bias(norm: NormName) -> bool:
    """Whether a convolution has a bias of its own: a normaliser of maps brings its own, after it."""
    return norm in ("none", "demodulated")


@dataclass
class _Tracer:
    """Walks through the layers of one network."""

    network: Network
    channels: int
    side: int
    index: int = 0
    parameters: int = 0
    kept: int = 0
    held: bool = True
    """Whether the map at hand is kept already, by whoever made it (the image is the batch's)."""
    rows: list[LayerShape] = field(default_factory=list)

    def walk(self, layers: tuple[AnyLayer, ...]) -> list[LayerShape]:
        for self.index, layer in enumerate(layers):
            self.parameters = self.kept = 0
            self._layer(layer)
            self.rows.append(
                LayerShape(self.index + 1, text(layer), self.channels, self.side, self.parameters, self.kept)
            )
        return self.rows

    def _layer(self, layer: AnyLayer) -> None:
        match layer:
            case Resize(size=size):
                self._resize(size)
            case Conv(channels=channels, kernel=kernel, stride=stride, padding=padding):
                self._block(layer, channels, kernel, stride=stride, padding=padding)
            case Down() | Up() | Transposed():
                self._scaling(layer)
            case Reconv(size=size, channels=channels, kernel=kernel):
                self._resize(size)
                self._block(layer, channels, kernel)
            case Residual() | Spap() | Attention():
                self._same_shape(layer)
            case Final():
                self._final(layer)
            case _:
                assert_never(layer)

    def _same_shape(self, layer: Residual | Spap | Attention) -> None:
        match layer:
            case Residual():
                self._residual(layer)
            case Spap():
                self._spap(layer)
            case Attention():
                self._attention(layer)

    def _scaling(self, layer: Down | Up | Transposed) -> None:
        for _ in range(layer.count):
            match layer:
                case Down():
                    self._block(layer, 2 * self.channels, layer.kernel, stride=2)
                case Up():
                    self._resize(2 * self.side)
                    self._block(layer, self._half(), layer.kernel)
                case Transposed():
                    outputs, (norm, activation) = self._half(), self._styles(layer)
                    self._weigh(self.channels, outputs, layer.kernel, norm)
                    self._hold()
                    self.channels, self.side, self.held = outputs, 2 * self.side, False
                    self._after(norm, activation)

    def _resize(self, size: int) -> None:
        self.side, self.held = size, self.held and size == self.side

    def _hold(self) -> None:
        """The map at hand is needed again."""
        self.kept += 0 if self.held else self.channels * self.side**2
        self.held = True

    def _residual(self, layer: Residual) -> None:
        norm, _ = self._styles(layer)
        for _ in range(layer.count):
            self._block(layer, self.channels, layer.kernel)
            self._conv(self.channels, layer.kernel, norm)
            self._after(norm, "none")
            self.held = False  # the sum

    def _spap(self, layer: Spap) -> None:
        norm, activation = self._styles(layer)
        map_, width, held = self.channels * self.side**2, self.channels, self.held
        for dilation in dilations(layer):
            self.held = held
            self._block(layer, width, layer.kernel, dilation=dilation)
            held = held or layer.kernel == 1 or self.network.border != "zeros"  # the input, for the next branch
        branch_held = self.held
        for number in range(layer.levels - 1):
            self.channels, self.held = 2 * width, False  # both branches side by side
            self._conv(width, 1, norm)
            self._after(norm, "sigmoid" if layer.gate == "softmax" else layer.gate)
            # the gate times the difference of both branches; or times each: the first fused one is a branch itself
            first_held = branch_held if number == 0 else False
            self.kept += map_ if layer.gate == "softmax" else map_ * (int(not branch_held) + int(not first_held))
        self.held = False  # the sum
        if layer.post:
            self._after(norm, activation, parameters=True)

    def _attention(self, layer: Attention) -> None:
        if self.channels % layer.heads:
            raise ShapeError(self.index, f"{layer.heads} heads do not divide {self.channels} channels")
        pixels = self.side**2
        self.parameters += 4 * self.channels**2 + 1
        self._hold()
        # queries, keys, values; what attention gives, with a sum a head and pixel; that projected; and, as measured,
        # about one of them once more in another order
        self.kept += 6 * self.channels * pixels + layer.heads * pixels
        self.held = False

    def _final(self, layer: Final) -> None:
        assert layer.channels is not None and layer.activation is not None, "a resolved spec"
        self._conv(layer.channels, layer.kernel, "none", stride=layer.stride, padding=layer.padding)
        self._after("none", layer.activation)

    def _block(
        self, layer: Conv | Down | Up | Reconv | Residual | Spap, outputs: int, kernel: int, *, stride: int = 1,
        padding: "int | str" = "same", dilation: int = 1,
    ) -> None:  # fmt: skip
        """Convolution, normaliser, activation."""
        norm, activation = self._styles(layer)
        self._conv(outputs, kernel, norm, stride=stride, padding=padding, dilation=dilation)
        self._after(norm, activation)

    def _conv(
        self, outputs: int, kernel: int, norm: NormName, *, stride: int = 1, padding: "int | str" = "same",
        dilation: int = 1,
    ) -> None:  # fmt: skip
        pad = self._pads(kernel, stride, dilation, padding)
        reach = dilation * (kernel - 1)
        padded = self.side + pad.before + pad.after
        if padded <= reach:
            raise ShapeError(
                self.index, f"a kernel over {reach + 1} pixels finds only {padded} of them, padding included"
            )
        if self.network.border == "reflect" and max(pad.before, pad.after) >= self.side:
            raise ShapeError(
                self.index,
                f"{max(pad.before, pad.after)} pixels cannot be reflected beyond the edge of {self.side}; use border: "
                "zeros, a smaller kernel or dilation, or a larger size",
            )
        self._weigh(self.channels, outputs, kernel, norm)
        is_padded = bool(pad.before or pad.after)
        if not is_padded or self.network.border != "zeros":  # a reflecting edge keeps what it reflects
            self._hold()
        self.kept += self.channels * padded**2 if is_padded else 0
        made = (padded - reach - 1) // stride + 1
        self.kept += outputs * made**2 if pad.averaged else 0
        self.channels, self.side, self.held = outputs, made - int(pad.averaged), False

    def _pads(self, kernel: int, stride: int, dilation: int, padding: "int | str") -> Pads:
        try:
            return pads(kernel, stride, dilation, padding, self.network.alignment)
        except ValueError as error:
            raise ShapeError(self.index, str(error)) from None

    def _weigh(self, inputs: int, outputs: int, kernel: int, norm: NormName) -> None:
        self.parameters += inputs * outputs * kernel**2 + (outputs if conv_bias(norm) else 0)

    def _after(self, norm: NormName, activation: ActivationName, *, parameters: bool = False) -> None:
        """A normaliser and an activation. `parameters`: also those that a convolution would have brought."""
        map_ = self.channels * self.side**2
        if norm in ("instance", "pixel_instance") and self.side == 1:
            raise ShapeError(
                self.index, "one pixel has no spread to normalise by; use norm: none here, or fewer strides"
            )
        match norm:
            case "instance" | "batch" | "layer":
                self.parameters += 2 * self.channels
                self._hold()
                self.held = False
            case "pixel" | "pixel_instance":
                self.parameters += 2 * self.channels
                self._hold()
                self.kept += map_ + self.side**2
                self.held = False
            case "none" | "demodulated":
                self.parameters += self.channels if parameters else 0
                self.held = False
        self._activate(activation)

    def _activate(self, activation: ActivationName) -> None:
        match activation:
            case "relu" | "tanh" | "sigmoid":  # these keep their result
                self.held = False
                self._hold()
            case "leaky_relu":  # this keeps its input
                self._hold()
                self.held = False
            case "none":
                pass

    def _styles(self, layer: AnyLayer) -> tuple[NormName, ActivationName]:
        norm, activation = getattr(layer, "norm", None), getattr(layer, "activation", None)
        return norm or self.network.norm, activation or self.network.activation

    def _half(self) -> int:
        if self.channels % 2:
            raise ShapeError(self.index, f"{self.channels} channels cannot be halved")
        return self.channels // 2


def trace(network: Network, channels: int, side: int) -> list[LayerShape]:
    """Every layer of a resolved `network` on images of `channels` x `side` x `side`.

    Raises ShapeError that says which layer cannot be, and why.
    """
    assert network.layers is not None, "a resolved spec"
    return _Tracer(network, channels, side).walk(network.layers)


def dilations(layer: Spap) -> tuple[int, ...]:
    """One a level, the finest first."""
    return layer.dilations or tuple(1 if layer.kernel == 1 else level + 1 for level in range(layer.levels))
