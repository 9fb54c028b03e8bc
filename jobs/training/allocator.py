"""What the C library does with freed memory, while a job trains on a CPU."""

import ctypes
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
KEPT_BYTES = 2**30


def keep_freed_memory(device: torch.device) -> None:
    """On a CPU, freed tensors are reused instead of being given back to the system; without glibc, nothing happens.

    By default every tensor above 128 KiB may be mapped anew and faulted in page by page: 6,600 faults in an iteration
    of the demo, a tenth of its time.
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
