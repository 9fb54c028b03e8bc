"""Several processes that train one GAN, each on its share of every batch, and what they tell each other.

The same weights everywhere, gradients averaged before every optimizer step: what one process would do that accumulates
over as many micro-batches. The first process leads: it alone measures, checks, writes and decides. The others hear from
it what comes next, one order a step, so that no two clocks and no two verdicts have to agree.

    leader:      BEGIN at 12,800 images    STEP    STEP    (samples, checks, a checkpoint)    STEP    ...    END
    the others:  load that checkpoint      step    step              wait                     step    ...    leave
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not said so to checkers

from jobs.errors import DeviceError, GankilnError, InternalError
from jobs.training.flat import in_one
from jobs.training.shares import Shares

T = TypeVar("T")

RANK, SIZE, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"
"""What torchrun puts into the environment."""
HOST = "127.0.0.1"
LEAVING_SECONDS, NOTICING_SECONDS = 20, 30
"""How long others may take to end; and how long the loss of one may go unnoticed."""
PATIENCE = timedelta(days=1)
"""An evaluation may take hours, while all others wait; a process that ends is noticed at once, without this."""


class What(IntEnum):
    """What the leader orders."""

    BEGIN = 0
    STEP = 1
    END = 2


class Order(NamedTuple):
    """What comes next; all but `what` counts for BEGIN alone."""

    what: What
    images: int = 0
    """Where to begin: the newest checkpoint's place, or 0."""
    micro_batch: int = 0
    recompute: bool = False
    learning_rate_factor: float = 1.0
    r1_gamma_factor: float = 1.0


@dataclass
class Team:
    """One process among `size`, the one with this `rank`. A team of one does nothing, and costs nothing."""

    rank: int = 0
    size: int = 1
    listening: bool = True
    """Of the leading process: whether the others wait for its next order; not within a step, nor once dismissed."""

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def shares(self, pieces: Sequence[T], phase: str = "") -> Shares[T]:
        """This process's micro-batches, each with the random numbers of its place in the whole batch.

        Every process must have as many. Another `phase` of a step draws other numbers.
        """
        return Shares(pieces, self.rank * len(pieces), self.size * len(pieces), phase)

    def own(self, whole: Tensor) -> Tensor:
        """This process's part of something for the whole batch, along the first axis."""
        return whole if self.size == 1 else whole.chunk(self.size)[self.rank]

    def gather(self, own: Tensor) -> Tensor:
        """Every process's `own` of one shape, joined in their order along the first axis."""
        if self.size == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sum over all processes into each of `tensors`, in one message."""
        if self.size == 1 or not tensors:
            return
        in_one(tensors, dist.all_reduce)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Puts the mean over all processes into each of `tensors`, in one message."""
        if self.size > 1 and tensors:
            self.add(tensors)
            with torch.no_grad():
                torch._foreach_div_(list(tensors), self.size)

    def mean(self, tensor: Tensor) -> Tensor:
        """`tensor`, in which now is the mean over all processes."""
        self.average([tensor])
        return tensor

    def average_gradients(self, network: nn.Module) -> None:
        """Makes the gradients at hand those of the whole batch."""
        if self.size > 1:
            self.average([parameter.grad for parameter in network.parameters() if parameter.grad is not None])

    def averaged(self, scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        """The means over all processes of scalars that every process has."""
        if self.size == 1 or not scalars:
            return scalars
        device = next((value.device for value in scalars.values() if value.is_cuda), torch.device("cpu"))
        values = torch.stack([value.detach().double().to(device, non_blocking=True) for value in scalars.values()])
        self.average([values])
        return dict(zip(scalars, values.unbind(), strict=True))

    def share_weights(self, networks: Iterable[nn.Module]) -> None:
        """Makes every network what it is in the leading process, to the last bit."""
        if self.size > 1:
            for network in networks:
                for tensor in network.state_dict().values():
                    self.led(tensor)

    def led(self, tensor: Tensor) -> Tensor:
        """`tensor`, in which now is what the leading process has there."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """A step that all take together; what is raised within ends the team."""
        self.tell(Order(What.STEP))
        self.listening = False
        yield
        self.listening = True

    def dismiss(self) -> None:
        """No step is left: the others go, and free their devices."""
        self.tell(Order(What.END))
        self.listening = False

    def tell(self, order: Order) -> None:
        """From the leading process to all others, where they listen: those in a step that was broken off do not."""
        if self.size > 1 and self.listening:
            dist.broadcast(torch.tensor(order, dtype=torch.float64), src=0)

    def hear(self) -> Order:
        """In any other process: waits for the leader's next order."""
        said = torch.zeros(len(Order._fields), dtype=torch.float64)
        dist.broadcast(said, src=0)
        what, images, micro_batch, recompute, *factors = said.tolist()
        return Order(What(int(what)), int(images), int(micro_batch), bool(recompute), *factors)


ALONE = Team()


class Meeting(NamedTuple):
    """Where a process that was started by the leader finds it, and who it is there."""

    rank: int
    size: int
    port: int


@contextlib.contextmanager
def joined(devices: int, device: str, meeting: Meeting | None, what: Callable[[], dict[str, Any]]) -> Iterator[Team]:
    """The team of `devices` processes that this one belongs to; ALONE where that is one.

    It was started by torchrun, or by the leader, which gave it a `meeting`; or it leads, and starts the others, which
    are told `what` to take part in. Each has a GPU of its own, unless `device` says cpu. Raises DeviceError where there
    are not as many GPUs, or torchrun has started another number of processes; in the leader, what ended another one.
    """
    by_torchrun = int(os.environ.get(SIZE, "1")) if RANK in os.environ else 1
    if devices == by_torchrun == 1:
        yield ALONE
        return
    with contextlib.ExitStack() as leaving:
        if meeting is not None:
            rank, store = meeting.rank, TCPStore(HOST, meeting.port, meeting.size, is_master=False)
            local = rank
        elif by_torchrun > 1:
            rank, store, local = int(os.environ[RANK]), None, int(os.environ.get(LOCAL_RANK, "0"))
            _check_size(devices, by_torchrun)
        else:
            rank, local = 0, 0
            store = TCPStore(HOST, 0, devices, is_master=True, wait_for_workers=False)
            _check_gpus(device, devices)
            meetings = [Meeting(other, devices, store.port) for other in range(1, devices)]
            leaving.enter_context(_others([_start(what(), meeting) for meeting in meetings]))
        leaving.enter_context(_group(rank, devices, store, _gpu(device, local)))
        yield Team(rank, devices)


def _start(what: dict[str, Any], meeting: Meeting) -> subprocess.Popen[bytes]:
    """Starts another process; see jobs/beside.py."""
    process = subprocess.Popen([sys.executable, "-m", "jobs.beside"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps({**what, "meeting": meeting}).encode() + b"\n")
    process.stdin.close()
    return process


@contextlib.contextmanager
def _group(rank: int, size: int, store: TCPStore | None, gpu: int | None) -> Iterator[None]:
    """torch's process group, of this process and all others; on a CPU they share its cores."""
    threads = torch.get_num_threads()
    if gpu is None:
        torch.set_num_threads(max(1, threads // size))
    else:
        torch.cuda.set_device(gpu)
    backend = "gloo" if gpu is None else "cpu:gloo,cuda:nccl"
    known: dict[str, Any] = {} if store is None else {"store": store, "rank": rank, "world_size": size}
    dist.init_process_group(backend, timeout=PATIENCE, **known)
    try:
        yield
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _others(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Processes that end with this block: by themselves, or they are ended. Raises what one of them ended with."""
    over = threading.Event()
    threading.Thread(target=_guard, args=(processes, over), name="gankiln-team", daemon=True).start()
    try:
        yield
    except Exception as error:
        if (lost := _lost(processes)) is not None:
            raise lost from error
        raise
    finally:
        over.set()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LEAVING_SECONDS)
        for process in processes:
            process.kill()
            process.wait()


def _guard(processes: Sequence[subprocess.Popen[bytes]], over: threading.Event) -> None:
    """Ends this process when another is lost and nothing notices: a GPU waits for its message for ever."""
    while not over.wait(1.0):
        if (lost := _lost(processes)) is not None and not over.wait(NOTICING_SECONDS):
            sys.stderr.write(f"gankiln: {lost}\n")
            sys.stderr.flush()
            os._exit(lost.exit_code)


def _lost(processes: Sequence[subprocess.Popen[bytes]]) -> GankilnError | None:
    """What the first process that has failed ended with."""
    for rank, process in enumerate(processes, start=1):
        if code := process.poll():
            kind = next((kind for kind in GankilnError.__subclasses__() if kind.exit_code == code), InternalError)
            return kind(
                f"process {rank} of the {len(processes) + 1} that train this job ended with "
                f"{f'signal {-code}' if code < 0 else f'code {code}'}",
                hint="what it said about that stands above",
            )
    return None


def _check_size(devices: int, started: int) -> None:
    if started != devices:
        raise DeviceError(
            f"training.devices: {devices}, but torchrun has started {started} processes",
            hint="give --nproc-per-node the same number; or use `gankiln run` alone, which starts them itself",
        )


def _check_gpus(device: str, devices: int) -> None:
    if device != "cpu" and torch.cuda.is_available() and torch.cuda.device_count() < devices:
        raise DeviceError(
            f"training.devices: {devices}, but torch sees {torch.cuda.device_count()} GPUs",
            hint="`gankiln doctor` lists them; each process needs one",
        )


def _gpu(device: str, local: int) -> int | None:
    return local if device != "cpu" and torch.cuda.is_available() else None
