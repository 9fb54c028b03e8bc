"""Whether the kernel killed a process for lack of memory: the counters of the control group, version 1 and 2.

A SIGKILL has no sender. Without these counters an out-of-memory kill and `kill -9` look the same.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class OomCounter:
    """Counts out-of-memory kills since it was made.

    Looks at this process's memory control group, `memory.events` (version 2) or `memory.oom_control` (version 1), and
    where neither can be read (no container, macOS) at the whole machine's /proc/vmstat, if that exists.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._files = [file for file in _candidates(root) if _read_count(file) is not None][:1]
        self._before = self._total()

    def kills(self) -> int:
        """Out-of-memory kills since this counter was made."""
        return max(0, self._total() - self._before)

    def _total(self) -> int:
        return sum(_read_count(file) or 0 for file in self._files)


def _candidates(root: Path) -> Iterator[Path]:
    """Counter files, the most specific first."""
    groups = _control_groups(root / "proc/self/cgroup")
    if "" in groups:  # version 2: one hierarchy without a name
        yield root / "sys/fs/cgroup" / groups[""] / "memory.events"
    if "memory" in groups:
        yield root / "sys/fs/cgroup/memory" / groups["memory"] / "memory.oom_control"
    # Inside a container the path in /proc may be the host's while the mount shows the container's own group as root.
    yield root / "sys/fs/cgroup/memory.events"
    yield root / "sys/fs/cgroup/memory/memory.oom_control"
    yield root / "proc/vmstat"


def _control_groups(file: Path) -> dict[str, str]:
    """Controller -> path of this process's group, without its leading slash; "" is the version 2 hierarchy."""
    groups = {}
    for line in _read(file).splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    return groups


def _read_count(file: Path) -> int | None:
    found = _COUNT.search(_read(file))
    return int(found.group(1)) if found else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
