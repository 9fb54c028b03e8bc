"""Many tensors as one, so that what is to happen to all of them is asked of a device once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def in_one(tensors: Sequence[Tensor], change: Callable[[Tensor], object]) -> None:
    """Does `change`, which works in place, to all of `tensors`, of one number format, joined into a flat one."""
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    change(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])
