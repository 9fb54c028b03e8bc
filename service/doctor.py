"""`gankiln doctor`: does this machine have what a worker needs? One line a check, with what to do about it."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from jobs.errors import DeviceError, GankilnError
from service import settings as environment
from service.settings import Settings
from service.store import open_store
from service.store.selftest import check_store
from service.telemetry.gpu import NvidiaLibrary

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, never written
SHARED_MEMORY_BYTES = 1 << 30
"""64 MB, Docker's default, ends data loaders with SIGBUS."""
SKEW_SECONDS = 5.0
LARGEST_SKEW_SECONDS = 600.0
"""S3 refuses requests whose clock is 900 s off."""
TORCH_SECONDS = 120.0
_ASK_TORCH = """
import json, torch
works = torch.cuda.is_available() and (torch.ones(8, device="cuda") * 2).sum().item() == 16
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda, "gpus": torch.cuda.device_count(),
    "works": works, "archs": torch.cuda.get_arch_list(),
}))
"""

State = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    state: State
    message: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def examine(settings: Settings, *, ask_torch: Callable[[], dict[str, object]] | None = None) -> Iterator[Check]:
    """Every check, as it is made; none of them raises."""
    yield _versions()
    yield from _store(settings)
    yield from _gpu(ask_torch or torch_facts)
    yield _disk(settings)
    yield shared_memory(SHARED_MEMORY)
    yield _weights()


def _versions() -> Check:
    torch = importlib.metadata.version("torch")
    python = ".".join(map(str, sys.version_info[:3]))
    return Check("versions", "good", f"gankiln {importlib.metadata.version('gankiln')}, torch {torch}, Python {python}")


def _store(settings: Settings) -> Iterator[Check]:
    """The store's own self-test, and its clock."""
    if not settings.store:
        yield Check("store", "warning", "no store is given", "set GANKILN_STORE or write --store")
        return
    try:
        store = open_store(settings.store)
        passed = check_store(store)
    except GankilnError as error:
        yield Check("store", "bad", error.message, error.hint or "")
        return
    yield Check("store", "good", f"{store.url} keeps its promises ({passed.seconds:.1f} s)")
    yield skew(store.clock_skew_seconds())


def skew(seconds: float) -> Check:
    """The local clock against the store's. No decision about ownership rests on it; signatures do."""
    if abs(seconds) <= SKEW_SECONDS:
        return Check("clock", "good", f"this clock and the store's differ by {abs(seconds):.1f} s")
    message = f"this clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} the store's"
    state: State = "bad" if abs(seconds) > LARGEST_SKEW_SECONDS else "warning"
    return Check("clock", state, message, "set the clock of this machine by NTP")


def torch_facts() -> dict[str, object]:
    """What torch says of the GPU, asked in a process of its own: a broken driver may hang or crash it."""
    answer = subprocess.run(  # noqa: S603 - our own interpreter, a constant program
        [sys.executable, "-c", _ASK_TORCH],
        capture_output=True,
        text=True,
        timeout=TORCH_SECONDS,
        env=environment.child_environment(),
    )
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines()
        raise OSError(lines[-1] if lines else f"it ended with {answer.returncode}")
    facts: dict[str, object] = json.loads(answer.stdout)
    return facts


def _gpu(ask_torch: Callable[[], dict[str, object]]) -> Iterator[Check]:
    library = NvidiaLibrary()
    gpus = library.gpus()
    if gpus:
        shown = ", ".join(f"{gpu.name} {gpu.memory_total_bytes / 2**30:.0f} GiB" for gpu in gpus)
        yield Check("gpu", "good", f"{shown}; driver {library.driver_version()}, CUDA {library.cuda_version()}")
    else:
        yield Check("gpu", "warning", "no NVIDIA GPU is visible; jobs run on the CPU", "docker run --gpus all")
    try:
        facts = ask_torch()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        yield Check("torch", "bad", f"torch cannot be used: {error}", "reinstall it, or look at the driver: nvidia-smi")
        return
    if gpus and not facts["works"]:
        yield Check(
            "torch",
            "bad",
            f"torch {facts['version']} (CUDA {facts['cuda']}) cannot compute on this GPU",
            f"the driver is too old for it, or the GPU is not among {facts['archs']}",
        )
    else:
        where = f"{facts['gpus']} GPUs" if gpus else "the CPU"
        yield Check("torch", "good", f"torch {facts['version']} computes on {where}")


def check_gpus() -> None:
    """Before a worker claims anything: does its GPU compute? Raises DeviceError, so that no job is wasted on it."""
    if not NvidiaLibrary().gpus():
        return
    bad = next((check for check in _gpu(torch_facts) if check.state == "bad"), None)
    if bad:
        raise DeviceError(bad.message, hint=bad.hint)


def _disk(settings: Settings) -> Check:
    """Room for runs and inputs, and whether this user may write there."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(settings.home).free
    except OSError as error:
        return Check("disk", "bad", f"{settings.home}: {error.strerror}", "set GANKILN_HOME to a writable directory")
    if not os.access(settings.home, os.W_OK):
        return Check("disk", "bad", f"{settings.home}: is not writable", "set GANKILN_HOME to a writable directory")
    message = f"{free_bytes / 2**30:.0f} GiB free at {settings.home}"
    if free_bytes < settings.free_bytes:
        return Check("disk", "bad", message, f"at least {settings.free_bytes / 2**30:.0f} GiB are kept free")
    wanted = settings.spool_bytes + settings.free_bytes
    hint = f"an outage of the store may need {wanted / 2**30:.0f} GiB" if free_bytes < wanted else ""
    return Check("disk", "warning" if hint else "good", message, hint)


def shared_memory(path: Path) -> Check:
    """Data loaders hand batches over through it."""
    try:
        total_bytes = shutil.disk_usage(path).total
    except OSError:
        return Check("shared memory", "good", f"no {path} here")
    message = f"{total_bytes / 2**20:,.0f} MiB of shared memory"
    if total_bytes < SHARED_MEMORY_BYTES:
        return Check("shared memory", "warning", message, "docker run --shm-size=8g; data loaders may die by SIGBUS")
    return Check("shared memory", "good", message)


def _weights() -> Check:
    """The weights of the default feature space, and of every package that carries some, by their sha256."""
    from jobs.evaluation.weights import locate, verify_packaged

    try:
        locate("efficientnet_lite0", None)
        present = verify_packaged()
    except GankilnError as error:
        return Check("weights", "bad", error.message, error.hint or "")
    return Check("weights", "good", f"{', '.join(present)}: the known files")
