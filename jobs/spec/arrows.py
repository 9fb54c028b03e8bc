"""The short form of a list of layers.

    input -> resize(256) -> conv2d(d64,k7,s1) -> spap(5) -> resize(512) -> conv2d(d4,k7)

A layer is `name(arguments)`; several alike are `2*name(arguments)`. Arguments: `d64` channels, `k7` kernel, `s1`
stride, `p1` padding; a bare number is the layer's size, count, levels or heads; everything else is `field=value`.
`input` at the beginning and `output` at the end may be written. The last convolution is the final one: not normalised,
and activated as the final layer of its network is.
"""

import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from jobs.spec.layer_list import AnyLayer, Layer

NAMES = {
    "conv": "conv", "conv2d": "conv", "resize": "resize", "down": "down", "downsample": "down",
    "downsampleconv": "down", "up": "up", "upsample": "up", "upsampleconv": "up", "transposed": "transposed",
    "reconv": "reconv", "residual": "residual", "spap": "spap", "attention": "attention", "final": "final",
}  # fmt: skip
BEGIN, END = {"input"}, {"output", "out", "return"}
LETTERS = {"d": "channels", "k": "kernel", "s": "stride", "p": "padding"}
NUMBERS = {
    "resize": "size", "reconv": "size", "down": "count", "up": "count", "transposed": "count", "residual": "count",
    "spap": "levels", "attention": "heads",
}  # fmt: skip
"""What a bare number means, by kind."""
_STEP = re.compile(r"^(?:(\d+)\s*\*\s*)?([A-Za-z][A-Za-z0-9]*)\s*(?:\(([^()]*)\))?$")
_LAYER: TypeAdapter[AnyLayer] = TypeAdapter(Layer)


def parse(written: str) -> list[AnyLayer]:
    """The layers that `written` names, in order. Raises ValueError that names the layer by its number."""
    steps = [step.strip() for step in written.split("->")]
    if steps and steps[0].lower() in BEGIN:
        del steps[0]
    if steps and steps[-1].lower() in END:
        del steps[-1]
    layers: list[AnyLayer] = []
    for step in steps:
        layers += _layers(step, len(layers) + 1)
    if layers and layers[-1].kind == "conv":
        last = layers[-1].model_dump(exclude={"kind", "norm"}, exclude_none=True)
        layers[-1] = _LAYER.validate_python({"kind": "final", **last})
    return layers


def _layers(step: str, number: int) -> list[AnyLayer]:
    matched = _STEP.match(step)
    if matched is None or matched[2].lower() not in NAMES:
        raise ValueError(
            f"layer {number}: {step!r} is no layer; written as name(arguments), with one of the names "
            f"{', '.join(sorted(set(NAMES.values())))}"
        )
    kind = NAMES[matched[2].lower()]
    arguments = [argument.strip() for argument in (matched[3] or "").split(",") if argument.strip()]
    fields: dict[str, Any] = {"kind": kind}
    for argument in arguments:
        name, value = _field(kind, argument, f"layer {number} ({step})")
        fields[name] = value
    try:
        layer = _LAYER.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part != kind)
        raise ValueError(f"layer {number} ({step}): {field}: {first['msg'][:1].lower() + first['msg'][1:]}") from None
    return [layer] * int(matched[1] or 1)


def _field(kind: str, argument: str, where: str) -> tuple[str, Any]:
    """One argument as a field and its value."""
    if (short := re.fullmatch(r"([dksp])(\d+)", argument)) is not None:
        return LETTERS[short[1]], int(short[2])
    if argument.isdigit() and kind in NUMBERS:
        return NUMBERS[kind], int(argument)
    name, equals, value = argument.partition("=")
    if not equals:
        raise ValueError(f"{where}: {argument!r} is neither d, k, s or p with a number, nor field=value")
    if name == "dilations":
        return name, [int(part) if part.isdigit() else part for part in value.split("/")]
    return name, {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
