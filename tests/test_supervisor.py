"""The supervisor tells every way a job can end from every other, and keeps its limits."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import settings, supervisor
from service.event_tail import EventTail
from service.queue.reasons import REASONS
from service.supervisor import (
    Attempt,
    Limits,
    Output,
    StopSwitch,
    Watch,
    explain,
    job_command,
)

FAKE = """
import json, os, signal, sys, time
def say(event, **fields):
    with open("run/events.jsonl", "a") as file: file.write(json.dumps({"event": event, **fields}) + "\\n")
os.makedirs("run", exist_ok=True)
"""


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.05)


def _attempt(tmp_path, script, *, limits=None, stop=None, redact=lambda text: text, log_bytes=1 << 20):
    (tmp_path / "job.py").write_text(FAKE + script)
    return Attempt(
        [sys.executable, "job.py"],
        tmp_path / "run",
        environment=settings.child_environment(),
        limits=limits or Limits(),
        output=Output(tmp_path / "output.log", log_bytes, redact),
        stop=stop or StopSwitch(),
    )


def _run(attempt, on_event=lambda event: None, on_tick=lambda: None):
    return attempt.run(on_event, on_tick)


def test_a_job_that_finishes(tmp_path):
    events = []
    ending = _run(_attempt(tmp_path, "say('start', images=0)\nsay('end', images=9)\nprint('bye')"), events.append)
    assert ending.code == "finished"
    assert [event["event"] for event in events] == ["start", "end"]
    assert ending.log_tail == ("bye",)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sys.exit(64)", "spec_refused"),
        ("sys.exit(65)", "data_missing"),
        ("sys.exit(66)", "out_of_memory"),
        ("sys.exit(67)", "diverged"),
        ("sys.exit(71)", "device_error"),
        ("sys.exit(75)", "preempted"),
        ("sys.exit(143)", "preempted"),
        ("sys.exit(77)", "permission_denied"),
        ("raise RuntimeError('our bug')", "internal_error"),
        ("raise RuntimeError('CUDA error: an illegal memory access was encountered')", "device_error"),
        ("raise RuntimeError('CUDA error: device-side assert triggered')", "internal_error"),
        ("raise RuntimeError('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate')", "out_of_memory"),
        ("raise OSError(28, 'No space left on device')", "store_error"),
        ("raise RuntimeError('unable to mmap 8 bytes from file </torch_1>: Cannot allocate memory')", "internal_error"),
        ("raise RuntimeError('DataLoader worker is killed by signal: Bus error.')", "killed"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "killed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "preempted"),
        ("print('RuntimeError: NCCL error in: x.cpp'); sys.stdout.flush(); os.abort()", "device_error"),
    ],
)
def test_each_way_to_end_has_its_reason(tmp_path, script, reason):
    assert _run(_attempt(tmp_path, script)).code == reason


def test_an_out_of_memory_kill_is_told_from_kill_nine():
    assert explain(-9, None, oom_kills=1, tail=(), seconds=1).code == "killed_out_of_memory"
    assert explain(-9, None, oom_kills=0, tail=(), seconds=1).code == "killed"
    # A rank of torchrun or a data loader was killed: the job ends with an ordinary error.
    assert (
        explain(1, None, oom_kills=1, tail=("RuntimeError: DataLoader worker exited",), seconds=1).reason
        == "killed_out_of_memory"
    )
    # The job said itself why it ended: that some other process was killed at the time is not its reason.
    assert explain(67, None, oom_kills=1, tail=(), seconds=1).code == "diverged"


def test_torchrun_hides_the_exit_code_of_the_rank_that_failed():
    tail = ("Root Cause (first observed failure):", "  rank      : 1 (local_rank: 1)", "  exitcode  : 67 (pid: 99)")
    assert explain(1, None, oom_kills=0, tail=tail, seconds=1).code == "diverged"


def test_the_message_is_the_jobs_own_error(tmp_path):
    ending = _run(
        _attempt(tmp_path, "print('step 1'); print('error: data.path: no such file\\n  hint: x'); sys.exit(65)")
    )
    assert ending.message == "error: data.path: no such file\n  hint: x"
    assert REASONS[ending.reason].retry == "never"


def test_asked_to_stop_it_saves_itself_and_the_reason_is_why_it_was_asked(tmp_path):
    stop = StopSwitch()
    script = """
def save(*_):
    say('checkpoint', images=5, seconds=0.1); sys.exit(143)
signal.signal(signal.SIGTERM, save)
say('start', images=0)
time.sleep(60)
"""
    events = []

    def on_event(event):
        events.append(event["event"])
        stop.ask("drain", 20)

    ending = _run(_attempt(tmp_path, script, stop=stop), on_event)
    assert ending.code == "drain"
    assert events == ["start", "checkpoint"]
    assert ending.exit_code == 143


def test_a_job_that_does_not_stop_is_killed_with_its_family_when_the_grace_is_over(tmp_path):
    stop = StopSwitch()
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('start', images=0); time.sleep(60)"
    started = time.monotonic()
    ending = _run(_attempt(tmp_path, script, stop=stop), lambda event: stop.ask("cancelled", 1.0))
    assert ending.code == "cancelled"
    assert ending.exit_code == -signal.SIGKILL
    assert time.monotonic() - started < 20


def test_without_time_for_a_checkpoint_it_is_killed_at_once(tmp_path):
    """The last checkpoint took 30 s and 5 s are left: the periodic one must do."""
    stop = StopSwitch()
    script = """
signal.signal(signal.SIGTERM, lambda *_: (print('asked'), sys.exit(143)))
say('checkpoint', images=5, seconds=30.0); say('progress', images=6)
time.sleep(60)
"""
    ending = _run(_attempt(tmp_path, script, stop=stop), lambda event: stop.ask("drain", 5.0))
    assert ending.code == "drain"
    assert ending.exit_code == -signal.SIGKILL
    assert ending.log_tail == ()


def test_fenced_goes_before_every_other_reason():
    stop = StopSwitch()
    stop.ask("drain", 100)
    stop.ask("cancelled", 100)
    assert stop.reason == "drain"
    stop.ask("fenced", 0)
    assert stop.reason == "fenced"
    assert stop.deadline_seconds <= time.monotonic()


def test_finishing_faster_than_the_request_to_stop_is_finishing():
    assert explain(0, "drain", oom_kills=0, tail=(), seconds=1).code == "finished"
    assert explain(0, "cancelled", oom_kills=0, tail=(), seconds=1).code == "cancelled"
    assert explain(0, "fenced", oom_kills=0, tail=(), seconds=1).code == "fenced"


@pytest.mark.parametrize(
    ("limits", "script", "reason"),
    [
        (Limits(startup_seconds=0.5), "say('phase', phase='preparing'); time.sleep(60)", "startup_timeout"),
        (Limits(stall_seconds=0.5), "say('progress', images=1); time.sleep(60)", "stalled"),
        (Limits(evaluation_seconds=0.5), "say('phase', phase='evaluating'); time.sleep(60)", "stalled"),
        (Limits(attempt_seconds=0.5), "say('progress', images=1); time.sleep(60)", "attempt_timeout"),
        (Limits(total_seconds=0.5), "say('progress', images=1); time.sleep(60)", "total_timeout"),
    ],
)
def test_limits(tmp_path, limits, script, reason):
    assert _run(_attempt(tmp_path, script, limits=limits)).code == reason


def test_an_evaluation_may_be_quiet_for_longer_than_training():
    watch = Watch(Limits(stall_seconds=10, evaluation_seconds=100))
    watch.see({"event": "progress"})
    watch.see({"event": "phase", "phase": "evaluating"})
    for _ in range(10):
        watch.pass_time(4)
    assert watch.exceeded() is None
    watch.see({"event": "phase", "phase": "training"})
    for _ in range(10):
        watch.pass_time(4)
    assert watch.exceeded() == "stalled"


def test_waiting_for_the_store_is_no_stall_and_no_slow_start_but_counts_for_the_attempt():
    watch = Watch(Limits(startup_seconds=10, stall_seconds=10, attempt_seconds=100))
    for started in (False, True):
        if started:
            watch.see({"event": "progress"})
        for _ in range(9):
            watch.pass_time(4, excused=True)
        assert watch.exceeded() is None
    for _ in range(8):
        watch.pass_time(4, excused=True)
    assert watch.exceeded() == "attempt_timeout"


def test_a_pause_of_the_worker_is_no_stall_of_the_job():
    watch = Watch(Limits(stall_seconds=60))
    watch.see({"event": "progress"})
    watch.pass_time(3600)  # SIGSTOP, a suspended machine
    assert watch.exceeded() is None


def test_when_a_callback_fails_the_job_does_not_live_on(tmp_path):
    attempt = _attempt(tmp_path, "say('start', images=0, pid=os.getpid()); time.sleep(60)")
    seen = []

    def fail(event):
        seen.append(event["pid"])
        raise RuntimeError("a bug in the worker")

    with pytest.raises(RuntimeError):
        _run(attempt, fail)
    assert subprocess.run(["ps", "-p", str(seen[0])], stdout=subprocess.DEVNULL).returncode == 1


def test_output_is_redacted_bounded_and_its_end_is_kept(tmp_path):
    script = "print('secret=abc');\nfor i in range(5000): print('line', i)\nprint('x' * 100_000)"
    attempt = _attempt(tmp_path, script, redact=lambda text: text.replace("abc", "***"), log_bytes=2000)
    ending = _run(attempt)
    kept = (tmp_path / "output.log").read_text()
    assert kept.startswith("secret=***\nline 0\n")
    assert len(kept) < 3000 and "GANKILN_LOG_BYTES" in kept
    assert len(ending.log_tail) == 100
    assert "line 4999" in ending.log_tail


def test_what_earlier_attempts_said_is_not_told_again(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/events.jsonl").write_text('{"event": "start", "images": 0}\n')
    events = []
    _run(_attempt(tmp_path, "say('start', images=7)"), events.append)
    assert [event["images"] for event in events] == [7]


@given(cuts=st.lists(st.integers(1, 40), max_size=30))
def test_events_are_read_whole_however_the_writes_are_cut(tmp_path_factory, cuts):
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    tail = EventTail(path)
    assert list(tail.read()) == []
    content = b"".join(b'{"event": "note", "message": "\xc3\xa9", "n": %d}\n' % n for n in range(9)) + b"torn\n{}\n"
    seen = []
    with path.open("ab", buffering=0) as file:
        for cut in [*cuts, len(content)]:
            file.write(content[:cut])
            content = content[cut:]
            seen += tail.read()
    assert [event["n"] for event in seen] == list(range(9))


def test_stop_may_be_asked_from_another_thread_and_is_answered_at_once(tmp_path):
    stop = StopSwitch()
    threading.Timer(1.0, stop.ask, ("paused", 10)).start()
    started = time.monotonic()
    assert _run(_attempt(tmp_path, "time.sleep(60)", stop=stop)).code == "paused"
    assert time.monotonic() - started < 5


def test_the_command_line_of_a_job(tmp_path):
    command = job_command(
        tmp_path / "spec.yaml",
        tmp_path / "run",
        relative_to=tmp_path / "inputs",
        data_roots=[tmp_path / "inputs", tmp_path / "data"],
        cache_dir=tmp_path / "cache",
    )
    assert command[1:4] == ["-m", "service", "run"]
    assert command[-4:] == ["--data-root", str(tmp_path / "inputs"), "--data-root", str(tmp_path / "data")]
