"""On what, and in which number format, a run computes; each choice with its reason, for the report."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from jobs.errors import DeviceError

PrecisionName = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Choice:
    """A decision that a person should see, and why it was taken."""

    value: str
    why: str


def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on. Raises DeviceError when a GPU is asked for and there is none."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "training.device: cuda, but torch sees no GPU",
            hint="run `gankiln doctor`; with docker, start the container with --gpus all; or write device: auto",
        )
    if asked == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def device_name(device: torch.device, devices: int = 1) -> str:
    """What the report calls the device, and how many there are."""
    each = f"{devices} x " if devices > 1 else ""
    if device.type == "cuda":
        return each + torch.cuda.get_device_name(device)
    return f"{each}CPU {platform.machine()}, {torch.get_num_threads()} threads"


def choose_precision(asked: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> Choice:
    """The number format of the convolutions."""
    if asked != "auto":
        return Choice(asked, "written in the spec")
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return Choice("bf16", "auto: this GPU has bfloat16 tensor cores")
        return Choice("fp16", "auto: this GPU has float16 tensor cores but no bfloat16")
    if multiplies_bfloat16():
        return Choice("bf16", "auto: this CPU multiplies bfloat16 matrices in hardware (AMX)")
    return Choice("fp32", "auto: this CPU has no matrix units for less than float32")


def multiplies_bfloat16() -> bool:
    """Whether this CPU has tile instructions for bfloat16, as Linux says; elsewhere, no."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def set_determinism(device: torch.device, *, deterministic: bool) -> None:
    """Bit-exact algorithms where asked for; otherwise the fastest that cuDNN finds."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
