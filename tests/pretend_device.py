"""A device that is not the host's, for machines without a GPU: what would fail or wait there shows itself here.

Tensors on it say that they are on torch's `meta` device, and hold their numbers on the CPU. An operation on tensors of
both devices fails, as on a GPU, but for numbers (no dimension) and for indices; NumPy cannot look into them; every copy
to the device and every value read from it is counted. Code that asks for the device's type takes the way of a GPU.

    with pretended() as device:
        recipe = build(job, known, "bf16", AWAY)
        recipe.step(batch, 0)
        device.read, device.copied      # nothing; the batch
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
import torch._dynamo  # before its names are patched
from torch import Tensor
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

AWAY = torch.device("meta")
HOME = torch.device("cpu")
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default}
"""Operations that a GPU's host waits for: a value is read, or a shape follows from values."""
ALLOCATE = {
    aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default, aten.new_empty.default,
    aten.new_empty_strided.default, aten._unsafe_view.default, aten.detach.default,
}  # fmt: skip
TAKE_INDICES = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class Away(Tensor):
    """A tensor on AWAY; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Away":
        made: Away = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=AWAY,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on a pretended device after it was left")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_options: Any) -> str:  # type: ignore[override]
        return f"Away({self.held})"


class Pretended(TorchDispatchMode):
    """While active, AWAY is a device that computes."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Counter[str] = Counter()
        self.copied: list[Tensor] = []
        """The host's tensors that were copied to AWAY."""
        self.launched: Counter[str] = Counter()
        """Operations that AWAY was asked for; views and allocations ask for nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves, _ = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        away = [tensor for tensor in tensors if isinstance(tensor, Away)]
        here = [tensor for tensor in tensors if not isinstance(tensor, Away)]
        onto = kwargs.get("device")
        onto = torch.device(onto) if onto is not None else AWAY if away else HOME
        if onto != AWAY and not away:
            return func(*args, **kwargs)
        if func is aten.copy_.default:
            onto = AWAY if isinstance(args[0], Away) else HOME
        if away and func not in COPIES | TAKE_INDICES:
            mixed = [tuple(tensor.shape) for tensor in here if tensor.dim()]
            assert not mixed, f"{func} mixes tensors of the device with {mixed} of the host"
        self._count(func, onto, here)
        if "device" in kwargs:
            kwargs["device"] = HOME
        plain_args, plain_kwargs = tree_map_only(Away, lambda tensor: tensor.held, (args, kwargs))
        made = func(*plain_args, **plain_kwargs)
        if onto == AWAY:
            made = _wrapped(made, away)
        return return_and_correct_aliasing(func, args, kwargs, made) if away and onto == AWAY else made

    def _count(self, func: Any, onto: torch.device, here: list[Tensor]) -> None:
        if func in COPIES and onto == AWAY:
            self.copied += here
        elif func in COPIES:
            self.read["copy to the host"] += 1
        if func in READS:
            self.read[str(func)] += 1
        if not func.is_view and func not in ALLOCATE:
            self.launched[str(func)] += 1


@contextlib.contextmanager
def pretended() -> Iterator[Pretended]:
    """AWAY computes meanwhile; what torch asks of a device by its name is answered as for a GPU."""
    generator, autocast, fused = torch.Generator, torch.autocast, optimizer._get_fused_kernels_supported_devices
    with pytest.MonkeyPatch.context() as patch, Pretended() as device:
        patch.setattr(torch, "Generator", lambda on="cpu": generator(HOME if torch.device(on) == AWAY else on))
        patch.setattr(torch, "autocast", lambda kind, *rest, **named: autocast(_known(kind), *rest, **named))
        patch.setattr(torch, "inference_mode", _no_grad)  # wrappers cannot be without versions
        patch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [*fused(), AWAY.type])
        yield device


def _no_grad(wanted: bool = True) -> AbstractContextManager[Any]:
    return torch.no_grad() if wanted else contextlib.nullcontext()


def _known(kind: str) -> str:
    return HOME.type if kind == AWAY.type else kind


def _wrapped(made: Any, away: list[Away]) -> Any:
    known = {id(tensor.held): tensor for tensor in away}
    flat, spec = tree_flatten(made)
    for at, leaf in enumerate(flat):
        if isinstance(leaf, Tensor):
            flat[at] = known[id(leaf)] if id(leaf) in known else Away(leaf)
    return tree_unflatten(flat, spec)
