"""What a layer must do: stay finite on constant input, make use of its dilation, keep a picture in its place."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

MOST_SHIFT_PIXELS = 0.25
BOUNDED = (
    "Tanh", "Sigmoid", "Hardtanh", "Hardsigmoid", "Softmax", "LogSoftmax", "LogSigmoid", "Clamp", "Relu", "Softplus",
)  # fmt: skip
"""Beginnings of the names of operations whose results have a bound on one side at least."""
RESHAPING = (
    "View", "Reshape", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "T", "Transpose", "Alias",
    "Clone", "ToCopy", "Expand", "Select", "Slice", "Cat", "Mean", "Sum", "Mul", "Div", "Neg",
)  # fmt: skip
"""Operations that do not change whether a result is bounded."""


class Call(NamedTuple):
    """How a module was called for the first time."""

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@contextmanager
def recording(networks: Mapping[str, nn.Module]) -> Iterator[list[Call]]:
    """The first call of every module meanwhile, the innermost before those around them."""
    calls: dict[str, Call] = {}
    handles = []
    for network, root in networks.items():
        for name, module in root.named_modules():
            path = f"{network}.{name}" if name else network
            handles.append(module.register_forward_hook(_recorder(calls, path), with_kwargs=True))
    listed: list[Call] = []
    try:
        yield listed
    finally:
        listed += calls.values()
        for handle in handles:
            handle.remove()


def _recorder(calls: dict[str, Call], path: str) -> Any:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        calls.setdefault(path, Call(path, module, args, kwargs))

    return record


def not_finite_on_constants(calls: list[Call]) -> list[str]:
    """Modules whose output or gradient is not finite where their input is constant: a normaliser without epsilon.

    Where an inner module is to blame, the ones around it are not named.
    """
    blamed: list[str] = []
    for call in calls:
        if any(path.startswith(f"{call.path}.") for path in blamed):
            continue
        if not _finite_on_constants(call):
            blamed.append(call.path)
    return [f"{path}: a constant input gives results or gradients that are not finite (no epsilon)" for path in blamed]


def _finite_on_constants(call: Call) -> bool:
    inputs: list[Tensor] = []

    def constant(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            inputs.append(torch.zeros_like(value, requires_grad=True))
            return inputs[-1]
        return value

    args = [constant(value) for value in call.args]
    kwargs = {name: constant(value) for name, value in call.kwargs.items()}
    with torch.enable_grad():
        outputs = [x for x in _flat(call.module(*args, **kwargs)) if x.is_floating_point()]
        total = sum((x.double().sum() for x in outputs), torch.zeros(()))
        if not total.requires_grad or not inputs:
            return bool(torch.isfinite(total))
        gradients = torch.autograd.grad(total, inputs, allow_unused=True)
    return all(bool(x.isfinite().all()) for x in (*outputs, *(x for x in gradients if x is not None)))


def _flat(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [x for item in output for x in _flat(item)] if isinstance(output, list | tuple) else []


def inert_dilations(calls: list[Call]) -> list[str]:
    """Dilated convolutions with a kernel of one: the dilation does nothing."""
    return [
        f"{call.path}: a dilation of {call.module.dilation} on a kernel of {call.module.kernel_size} changes nothing"
        for call in calls
        if isinstance(call.module, nn.modules.conv._ConvNd)
        and all(size == 1 for size, by in zip(call.module.kernel_size, call.module.dilation, strict=True) if by > 1)
        and any(by > 1 for by in call.module.dilation)
    ]


def shifting_kernels(calls: list[Call]) -> list[str]:
    """Convolutions with an even kernel that move a picture off its centre."""
    sentences = []
    for call in calls:
        weight = call.module._parameters.get("weight")
        if weight is None or weight.dim() != 4 or all(side % 2 for side in weight.shape[2:]):
            continue
        if getattr(call.module, "shift_is_asked_for", False):  # the spec says so, and was warned of
            continue
        shift = _shift(call)
        if shift > MOST_SHIFT_PIXELS:
            sides = "x".join(str(side) for side in weight.shape[2:])
            sentences.append(f"{call.path}: its {sides} kernel moves the picture by {shift:.2f} pixels (not centred)")
    return sentences


@torch.no_grad()
def _shift(call: Call) -> float:
    """By how many pixels a blob in the middle leaves the middle, all weights equal."""
    module = copy.deepcopy(call.module)
    for name, parameter in module.named_parameters(recurse=False):
        parameter.fill_(1.0 if name == "weight" else 0.0)
    (x_NCHW,) = (value for value in call.args[:1] if isinstance(value, Tensor) and value.dim() == 4)
    height, width = x_NCHW.shape[2:]
    blob_HW = _blob(height, x_NCHW)[:, None] * _blob(width, x_NCHW)
    outputs = _flat(module(blob_HW.expand_as(x_NCHW), *call.args[1:], **call.kwargs))
    y_HW = outputs[0][0].double().sum(0)
    return max(_off_centre(y_HW.sum(1)), _off_centre(y_HW.sum(0)))


def _blob(side: int, like: Tensor) -> Tensor:
    place = torch.arange(side, device=like.device, dtype=like.dtype) - (side - 1) / 2
    return torch.exp(-place.square() / 2)


def _off_centre(mass_S: Tensor) -> float:
    place = torch.arange(len(mass_S), device=mass_S.device) - (len(mass_S) - 1) / 2
    return abs(float((mass_S * place).sum() / mass_S.sum()))


def bounded_by(logit: Tensor) -> str | None:
    """The operation that bounds a network's result, if its last one does."""
    node: Any = logit.grad_fn
    while node is not None:
        name = type(node).__name__.rstrip("0123456789").removesuffix("Backward")
        if name.startswith(BOUNDED):
            return name
        inputs = [following for following, _ in node.next_functions if following is not None]
        if name not in RESHAPING or len(inputs) != 1:
            return None
        node = inputs[0]
    return None
