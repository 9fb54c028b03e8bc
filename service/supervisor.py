"""Runs one attempt of a job in a child process, watches it, and says how it ended.

The child is `gankiln run` (under torchrun for several GPUs). The seam is its run directory: it tells what it does in
`events.jsonl`, why it ended by its exit code, and it saves itself on SIGTERM. A CUDA error, an out-of-memory kill or a
segmentation fault ends the attempt and not the worker. Nothing here imports torch, knows a queue or a store.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal

from jobs.errors import (
    DataError,
    DeviceError,
    Diverged,
    DoesNotFit,
    Interrupted,
    PermissionDenied,
    SpecError,
    StoreError,
)
from jobs.events import Event
from service.event_tail import EventTail
from service.oom import OomCounter
from service.queue.reasons import REASONS, Interruption, Reason

GUARDIAN = Path(__file__).with_name("guardian.py")
TAIL_LINES = 100
LINE_CHARACTERS = 4000
TICK_SECONDS = 0.5
LONGEST_TICK_SECONDS = 5.0
KILL_SECONDS = 10.0

Stop = Interruption | Literal["cancelled", "fenced"]
"""Why this side ends a running attempt."""


LimitReason = Literal["startup_timeout", "stalled", "attempt_timeout", "total_timeout"]


@dataclass(frozen=True)
class Limits:
    """How long an attempt may take, in seconds; None = no limit."""

    startup_seconds: float = 1800.0
    stall_seconds: float = 900.0
    evaluation_seconds: float = 3600.0
    attempt_seconds: float | None = None
    total_seconds: float | None = None
    """What is left of the limit over all attempts."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended: it finished, or it was stopped for `stop`, or it failed for `reason`."""

    stop: Stop | None = None
    reason: Reason | None = None
    message: str = ""
    hint: str | None = None
    seconds: float = 0.0
    exit_code: int | None = None
    """Of the child; minus the signal that ended it."""
    log_tail: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        return self.stop is None and self.reason is None

    @property
    def code(self) -> str:
        """One word for logs and metrics."""
        return self.stop or self.reason or "finished"


class StopSwitch:
    """Asks a running attempt to end. The first reason counts, except that `fenced` and a shorter grace go before it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self.reason: Stop | None = None
        self.deadline_seconds = float("inf")
        """By time.monotonic(); past it the job is killed."""

    def ask(self, reason: Stop, grace_seconds: float) -> None:
        """End, saving a checkpoint if `grace_seconds` allow. 0 kills at once."""
        with self._lock:
            if self.reason is None or reason == "fenced":
                self.reason = reason
            self.deadline_seconds = min(self.deadline_seconds, time.monotonic() + grace_seconds)
            self._asked.set()

    def wait(self, seconds: float) -> bool:
        """Waits until somebody asks, at most `seconds`."""
        return self._asked.wait(seconds)

    @property
    def asked(self) -> bool:
        return self._asked.is_set()


class Output:
    """What the child prints: kept in a file up to a limit, and its last lines in memory. Secrets are taken out."""

    def __init__(self, path: Path, limit_bytes: int, redact: Callable[[str], str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._left_bytes = limit_bytes
        self._redact = redact
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def tail(self) -> tuple[str, ...]:
        return tuple(self._tail)

    def drain(self, stream: IO[bytes]) -> None:
        """Reads until the child and all its helpers closed their end. Runs in a thread of its own."""
        with self.path.open("ab", buffering=0) as file:
            for line in _lines(stream.fileno()):
                self._keep(file, line)

    def _keep(self, file: IO[bytes], line: bytes) -> None:
        text = self._redact(line.decode("utf-8", errors="replace"))[:LINE_CHARACTERS]
        self._tail.append(text)
        data = text.encode("utf-8", errors="replace") + b"\n"
        if self._left_bytes <= 0:
            return
        self._left_bytes -= len(data)
        if self._left_bytes <= 0:
            data = b"... the rest of the output is not kept: GANKILN_LOG_BYTES is reached\n"
        with suppress(OSError):  # a full disk stops the log, not the job
            file.write(data)


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines as they come; a progress bar's carriage return ends one too, and so does an endless line."""
    rest = b""
    while chunk := os.read(descriptor, 1 << 16):
        *lines, rest = re.split(rb"[\r\n]+", rest + chunk)
        yield from (line for line in lines if line)
        if len(rest) > LINE_CHARACTERS * 4:
            yield rest
            rest = b""
    if rest:
        yield rest


class JobProcess:
    """The child process, everything it starts, and the pipe that holds them alive (see guardian.py)."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, output: Output) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a list, no shell
            [sys.executable, "-I", "-S", str(GUARDIAN), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        stream = self._process.stdout
        assert stream is not None
        self._reader = threading.Thread(target=output.drain, args=(stream,), name="job-output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or minus the signal, once it ended."""
        return self._process.poll()

    def terminate(self) -> None:
        """Asks the job to save itself and end."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends the job and everything it started, now."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:  # a process in an uninterruptible wait, such as a hung GPU driver
            self._process.kill()

    def close(self) -> None:
        """After the end: collects the last output and gives back the pipes."""
        self._reader.join(KILL_SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and (stream is self._process.stdin or not self._reader.is_alive()):
                with suppress(OSError):
                    stream.close()


@dataclass
class Watch:
    """What an attempt has done so far, by its events, and how long it has been quiet.

    Time is summed in short steps: while the worker itself stood still (SIGSTOP, a frozen machine) no time passes here.
    """

    limits: Limits
    phase: str = "preparing"
    started: bool = False
    """Whether the first step was reported."""
    seconds: float = 0.0
    quiet_seconds: float = 0.0
    excused_seconds: float = 0.0
    checkpoint_seconds: list[float] = field(default_factory=list)

    def see(self, event: Event) -> None:
        self.quiet_seconds = 0.0
        match event.get("event"):
            case "phase":
                self.phase = str(event.get("phase"))
            case "progress":
                self.phase, self.started = "training", True
            case "checkpoint":
                self.checkpoint_seconds = [*self.checkpoint_seconds, _number(event.get("seconds"))][-3:]
            case _:
                pass

    def pass_time(self, seconds: float, *, excused: bool = False) -> None:
        """`excused`: it is not the job that was slow, so the time counts only for the whole attempt."""
        step = min(seconds, LONGEST_TICK_SECONDS)
        self.seconds += step
        if excused:
            self.excused_seconds += step
        else:
            self.quiet_seconds += step

    def exceeded(self) -> LimitReason | None:
        """The limit that is exceeded, if any."""
        if self.limits.total_seconds is not None and self.seconds > self.limits.total_seconds:
            return "total_timeout"
        if self.limits.attempt_seconds is not None and self.seconds > self.limits.attempt_seconds:
            return "attempt_timeout"
        if self.phase in ("evaluating", "reporting"):
            return "stalled" if self.quiet_seconds > self.limits.evaluation_seconds else None
        if not self.started:
            starting_seconds = self.seconds - self.excused_seconds
            return "startup_timeout" if starting_seconds > self.limits.startup_seconds else None
        return "stalled" if self.quiet_seconds > self.limits.stall_seconds else None

    def predicted_checkpoint_seconds(self) -> float:
        """How long the next checkpoint may take: the mean of the last three, and half as much again."""
        last = self.checkpoint_seconds
        return 1.5 * sum(last) / len(last) if last else 0.0


class Attempt:
    """One attempt of a job from start to end. `run` blocks; `stop` may be asked from any thread."""

    def __init__(
        self,
        command: Sequence[str],
        run_dir: Path,
        *,
        environment: Mapping[str, str],
        limits: Limits,
        output: Output,
        stop: StopSwitch,
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        """`waits`: whether the job can do nothing because the store is away."""
        self.watch = Watch(limits)
        self._waits = waits
        self._command = command
        self._folder = run_dir.parent
        self._environment = environment
        self._output = output
        self._stop = stop
        self._events = EventTail(run_dir / "events.jsonl")
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        for _ in self._events.read():  # what earlier attempts said
            pass

    def run(self, on_event: Callable[[Event], None], on_tick: Callable[[], None]) -> Ending:
        """Runs the child to its end. Both callbacks are called in this thread and must not fail or take long."""
        memory = OomCounter()
        process = JobProcess(self._command, environment=self._environment, folder=self._folder, output=self._output)
        try:
            ended_by_us = self._follow(process, on_event, on_tick)
        finally:
            process.kill()  # nothing when it has ended; everything when an exception passes through
            process.close()
        self._see_events(on_event)
        code = process.poll()
        return explain(
            -signal.SIGKILL if code is None else code,
            ended_by_us,
            oom_kills=memory.kills(),
            tail=self._output.tail,
            seconds=self.watch.seconds,
        )

    def _follow(
        self, process: JobProcess, on_event: Callable[[Event], None], on_tick: Callable[[], None]
    ) -> Stop | LimitReason | None:
        """Until the process ended; returns why this side ended it, None when it ended by itself."""
        asked = False
        last = time.monotonic()
        while process.poll() is None:
            self._pause(asked)
            now = time.monotonic()
            self.watch.pass_time(now - last, excused=self._waits())
            last = now
            self._see_events(on_event)
            on_tick()
            if self._stop.asked and not asked:
                asked = True
                self._end_gently(process)
            if asked and now > self._stop.deadline_seconds:
                process.kill()
            if not asked and (limit := self.watch.exceeded()):
                process.kill()
                return limit
        return self._stop.reason if asked else None

    def _pause(self, ending: bool) -> None:
        if ending:
            time.sleep(TICK_SECONDS / 5)
        else:
            self._stop.wait(TICK_SECONDS)

    def _end_gently(self, process: JobProcess) -> None:
        """Asks for a last checkpoint where the grace allows one; otherwise the periodic one must do."""
        grace_seconds = self._stop.deadline_seconds - time.monotonic()
        if self.watch.predicted_checkpoint_seconds() < grace_seconds:
            process.terminate()
        else:
            process.kill()

    def _see_events(self, on_event: Callable[[Event], None]) -> None:
        for event in self._events.read():
            self.watch.see(event)
            on_event(event)


_DEVICE_ERROR = re.compile(
    r"CUDA error: (?!out of memory)|NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError|\bXid\b|"
    r"uncorrectable ECC|GPU has fallen off the bus|CUDA driver initialization failed|Unable to determine the device"
)
_OUR_CUDA_ERROR = re.compile(r"device-side assert|no kernel image is available")
_DEVICE_MEMORY = re.compile(r"torch\.OutOfMemoryError|CUDA out of memory|CUDA error: out of memory")
_SHARED_MEMORY = re.compile(
    r"insufficient shared memory|Bus error|unable to (?:open|mmap|resize) shared memory|/dev/shm"
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_RANK_EXIT = re.compile(r"^\s*exitcode\s*:\s*(-?\d+)", re.MULTILINE)
"""What torchrun prints of the rank that failed first; torchrun itself always exits with 1."""


_BY_EXIT_CODE: dict[int, Reason] = {
    SpecError.exit_code: "spec_refused",
    DataError.exit_code: "data_missing",
    DoesNotFit.exit_code: "out_of_memory",
    Diverged.exit_code: "diverged",
    DeviceError.exit_code: "device_error",
    StoreError.exit_code: "store_error",
    PermissionDenied.exit_code: "permission_denied",
}
_INTERRUPTED = (Interrupted.exit_code, 128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
"""75 and the shell's codes: a checkpoint was saved. Minus the signal: there was no time for one."""


@dataclass(frozen=True)
class _Finding:
    reason: Reason
    message: str
    hint: str | None = None


def explain(
    code: int, ended_by_us: Stop | LimitReason | None, *, oom_kills: int, tail: tuple[str, ...], seconds: float
) -> Ending:
    """How an attempt ended, from the exit code (minus the signal), the kernel's counters and the last output."""
    ending = Ending(seconds=seconds, exit_code=code, log_tail=tail)
    match ended_by_us:
        case "startup_timeout" | "stalled" | "attempt_timeout" | "total_timeout":
            return replace(ending, reason=ended_by_us, message=REASONS[ended_by_us].sentence)
        case "cancelled" | "fenced":
            return replace(ending, stop=ended_by_us)
        case None if code in _INTERRUPTED:
            return replace(ending, stop="preempted")
        case _ if code == 0:  # finished, perhaps faster than it was asked to stop
            return ending
        case None:
            found = _find(code, oom_kills, tail)
            return replace(ending, reason=found.reason, message=found.message, hint=found.hint)
        case _:
            return replace(ending, stop=ended_by_us)


def _find(code: int, oom_kills: int, tail: tuple[str, ...]) -> _Finding:
    text = "\n".join(tail)
    if code == 1 and (rank := _RANK_EXIT.search(text)):
        code = int(rank.group(1))
    if code in _BY_EXIT_CODE:
        return _Finding(_BY_EXIT_CODE[code], _own_words(tail))
    if oom_kills:
        return _Finding(
            "killed_out_of_memory",
            "The kernel killed it because the memory limit of the container (or the memory of the host) was reached.",
            "raise the memory limit of the worker, or lower the batch or the number of loader processes",
        )
    return next((found for look in (_device, _shared_memory, _disk) if (found := look(code, text))), None) or (
        _by_signal(-code) if code < 0 else _Finding("internal_error", _own_words(tail))
    )


def _device(code: int, text: str) -> _Finding | None:
    if match := _DEVICE_MEMORY.search(text):
        return _Finding("out_of_memory", _line_of(text, match), "lower training.micro_batch or use a larger device")
    if (match := _DEVICE_ERROR.search(text)) and not _OUR_CUDA_ERROR.search(text):
        return _Finding("device_error", _line_of(text, match), "look for Xid errors on that host: dmesg, nvidia-smi")
    return None


def _shared_memory(code: int, text: str) -> _Finding | None:
    match = _SHARED_MEMORY.search(text)
    if code != -signal.SIGBUS and not match:
        return None
    message = "It was stopped by SIGBUS: shared memory (/dev/shm) is full, or a mapped file was cut."
    return _Finding("killed", message, "give the container more shared memory: docker run --shm-size=8g")


def _disk(code: int, text: str) -> _Finding | None:
    match = _DISK_FULL.search(text)
    hint = "free space below GANKILN_HOME, or lower GANKILN_CACHE_BYTES"
    return _Finding("store_error", f"The local disk is full: {_line_of(text, match)}", hint) if match else None


def _by_signal(number: int) -> _Finding:
    if number == signal.SIGKILL:
        message = "Somebody outside gankiln killed it with SIGKILL; it was not out of memory."
        return _Finding("killed", message, "look at the event logs of the host and of the cluster")
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return _Finding("killed", f"It crashed with {name}.", "its last lines may tell where; a GPU may be at fault too")


def _line_of(text: str, match: re.Match[str]) -> str:
    start = text.rfind("\n", 0, match.start()) + 1
    return text[start:].partition("\n")[0].strip()


def _own_words(tail: tuple[str, ...]) -> str:
    """What the child said last about why it ended: its last `error:` with the lines after it, else its last line."""
    starts = [index for index, line in enumerate(tail) if line.lower().startswith("error")]
    lines = tail[starts[-1] : starts[-1] + 20] if starts else tail[-1:]
    return "\n".join(lines).strip() or "It ended without a word."


def job_command(
    spec: Path,
    run_dir: Path,
    *,
    relative_to: Path,
    data_roots: Sequence[Path],
    cache_dir: Path,
    weights_dir: Path | None = None,
) -> list[str]:
    """The command line of a job: `gankiln run`, which itself starts a process more for every further GPU."""
    options = ["--out", str(run_dir), "--relative-to", str(relative_to), "--cache-dir", str(cache_dir)]
    roots = [part for root in data_roots for part in ("--data-root", str(root))]
    weights = ["--weights-dir", str(weights_dir)] if weights_dir else []
    return [sys.executable, "-m", "service", "run", str(spec), *options, *weights, *roots]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
