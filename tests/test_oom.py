"""Out-of-memory kills are counted from control groups of both versions, and from the machine where there are none."""

from service.oom import OomCounter


def _write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_version_2(tmp_path):
    _write(tmp_path, "proc/self/cgroup", "0::/pod/worker\n")
    _write(tmp_path, "proc/vmstat", "oom_kill 50\n")
    events = _write(tmp_path, "sys/fs/cgroup/pod/worker/memory.events", "low 0\noom 2\noom_kill 3\noom_group_kill 0\n")
    counter = OomCounter(tmp_path)
    assert counter.kills() == 0
    events.write_text("low 0\noom 3\noom_kill 5\noom_group_kill 1\n")
    _write(tmp_path, "proc/vmstat", "oom_kill 99\n")
    assert counter.kills() == 2


def test_version_1(tmp_path):
    _write(tmp_path, "proc/self/cgroup", "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/\n")
    control = _write(tmp_path, "sys/fs/cgroup/memory/docker/ab/memory.oom_control", "under_oom 0\noom_kill 0\n")
    counter = OomCounter(tmp_path)
    control.write_text("under_oom 0\noom_kill 1\n")
    assert counter.kills() == 1


def test_in_a_container_the_path_in_proc_may_be_the_hosts(tmp_path):
    _write(tmp_path, "proc/self/cgroup", "0::/../../kubepods/x\n")
    events = _write(tmp_path, "sys/fs/cgroup/memory.events", "oom_kill 7\n")
    counter = OomCounter(tmp_path)
    events.write_text("oom_kill 8\n")
    assert counter.kills() == 1


def test_the_machine_where_there_is_no_group(tmp_path):
    machine = _write(tmp_path, "proc/vmstat", "nr_free_pages 4\noom_kill 1\n")
    counter = OomCounter(tmp_path)
    machine.write_text("nr_free_pages 4\noom_kill 2\n")
    assert counter.kills() == 1


def test_nothing_to_read_counts_nothing(tmp_path):
    assert OomCounter(tmp_path).kills() == 0
    assert OomCounter().kills() == 0  # this machine, whatever it has
