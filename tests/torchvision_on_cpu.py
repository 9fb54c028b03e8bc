"""Lets torchvision's wheel be imported on a processor's torch, for tests that compare with libraries that need it.

The wheel's compiled part is built for a CUDA torch and does not load elsewhere; importing then fails at the two
operators whose shapes torchvision registers. Declaring their schemas is enough: models and LPIPS use neither.
"""

import torch

_library: torch.library.Library | None = None  # to keep: torch forgets the operators when it is collected


def declare() -> None:
    """Call before the first import of torchvision; does nothing on a torch that the wheel was built for."""
    global _library
    if _library is not None or torch.version.cuda is not None:
        return
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
