"""Stands between the worker and a job: once the worker is gone, however it went, nothing of the job lives on.

    python -I -S guardian.py COMMAND ARGUMENT...

Standard input is a pipe whose other end only the worker holds. When it closes (the worker asked for it, or died, even
by SIGKILL), the command and everything it started are killed. SIGTERM and SIGINT are handed to the command alone, so
that it can save itself; its helpers (data loaders) live on until it has. The guardian ends as the command ended: with
its exit code, or by its signal. Only the standard library, and little of it: it starts in a few milliseconds.

Why not PR_SET_PDEATHSIG in the worker: it fires when the *thread* that forked ends, it needs code between fork and exec
in a process full of threads, and it does not reach grandchildren (the ranks of torchrun).
"""

import ctypes
import os
import resource
import select
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
OOM_SCORE = 800  # of 1000: when memory runs out the kernel takes the job, never the worker that can tell why


def _prctl(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):  # no prctl outside Linux; the pipe still works there
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _become(command: list[str], guardian: int) -> None:
    """In the forked child: turn into the command. Never returns."""
    os.setpgid(0, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:  # it died before the line above took effect
        os._exit(1)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - pathlib is slow to import
        file.write(str(OOM_SCORE))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a list, no shell
    except OSError as error:
        sys.stderr.write(f"error: cannot start {command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


def _children() -> list[int]:
    """Processes whose parent is this one, adopted orphans included."""
    mine = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:  # noqa: PTH208, PTH112
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{int(name)}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b")")[2].split()
            if int(fields[1]) == os.getpid():
                mine.append(int(name))
    return mine


def _kill_all(child: int) -> int:
    """Kills the command, its group and every descendant; returns the wait status of the command."""
    status = signal.SIGKILL.value
    while True:
        with suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        for pid in _children():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, pid_status = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        status = pid_status if pid == child else status


def _reap(child: int) -> int | None:
    """The wait status of the command once it ended; adopted orphans are reaped on the way."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid in (0, child):
            return status if pid == child else None


def _watch(child: int, wakeup: int) -> int:
    """Waits until the command ends or the worker lets go; returns the wait status of the command."""
    while True:
        readable, _, _ = select.select([0, wakeup], [], [])
        if wakeup in readable:
            for number in os.read(wakeup, 64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    with suppress(OSError):
                        os.kill(child, number)
            if (status := _reap(child)) is not None:
                _kill_all(child)  # what it left behind
                return status
        if 0 in readable and not os.read(0, 64):
            return _kill_all(child)


def _end_like(status: int) -> None:
    """Ends this process the way the command ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command may have dumped its core; once is enough
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def main() -> None:
    wakeup, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    guardian = os.getpid()
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        _become(sys.argv[1:], guardian)
    with suppress(OSError):
        os.setpgid(child, child)  # in both processes: whoever comes first
    _end_like(_watch(child, wakeup))


if __name__ == "__main__":
    main()
