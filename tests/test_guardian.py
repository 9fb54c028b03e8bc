"""Whatever happens to the worker, nothing of a job lives on; the worker learns exactly how the job ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.supervisor import GUARDIAN

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="adopting orphans needs Linux")

FAMILY = "sleep 311 & helper=$!; setsid sleep 312 & "
"""A helper in the job's own group and one that left it for a session of its own."""


def _start(*command, **options):
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARDIAN), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,
    )


def _family(process):
    """The job and its helpers, once all of them run."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        descendants = psutil.Process(process.pid).children(recursive=True)
        sleeps = {tuple(child.cmdline()) for child in descendants}
        if {("sleep", "311"), ("sleep", "312")} <= sleeps:
            return descendants
        time.sleep(0.02)
    raise AssertionError("the job did not start its helpers")


def _gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=10)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 67", 67), ("kill -SEGV $$", -signal.SIGSEGV), ("kill -KILL $$", -signal.SIGKILL)],
)
def test_it_ends_as_the_command_ended(script, code):
    with _start("sh", "-c", script) as process:
        assert process.wait(20) == code


def test_a_command_that_is_not_there_is_one_sentence_and_127():
    with _start("no-such-command-here") as process:
        assert process.wait(20) == 127
        assert b"cannot start no-such-command-here: No such file or directory" in process.stdout.read()


def test_closing_the_pipe_kills_everything():
    with _start("sh", "-c", FAMILY + "wait") as process:
        family = _family(process)
        process.stdin.close()
        assert process.wait(20) == -signal.SIGKILL
        assert _gone(family)


def test_helpers_do_not_outlive_the_command():
    with _start("sh", "-c", FAMILY + "sleep 0.5; exit 3") as process:
        family = _family(process)
        assert process.wait(20) == 3
        assert _gone(family)


def test_sigterm_goes_to_the_command_alone_so_that_it_can_save_itself():
    script = FAMILY + "trap 'kill -0 $helper && echo helper lives; exit 143' TERM; echo ready; wait"
    with _start("sh", "-c", script) as process:
        _family(process)
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.readline() == b"helper lives\n"
        assert process.wait(20) == 143


def test_a_worker_killed_by_sigkill_takes_its_job_along(tmp_path):
    """The real case: a process that holds the pipe dies without any chance to clean up."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-I', '-S', {str(GUARDIAN)!r}, 'sh', '-c', {FAMILY + 'wait'!r}],\n"
        "    stdin=subprocess.PIPE, start_new_session=True)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, str(script)]) as worker:
        family = _family(worker)
        os.kill(worker.pid, signal.SIGKILL)
        assert _gone(family)


def test_a_killed_guardian_takes_the_command_along():
    with _start("sleep", "313") as process:
        deadline = time.monotonic() + 20
        while not (children := psutil.Process(process.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.02)
        while children[0].cmdline() != ["sleep", "313"]:
            time.sleep(0.02)
        process.kill()
        assert _gone(children)


def test_when_memory_runs_out_the_kernel_takes_the_job_first():
    with _start("cat", "/proc/self/oom_score_adj") as process:
        assert int(process.stdout.read()) > int(Path("/proc/self/oom_score_adj").read_text())
