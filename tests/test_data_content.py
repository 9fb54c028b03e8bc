"""The bytes decide what a set is; `stat` only saves reading them again."""

import os
import time
from pathlib import Path

import pytest

from jobs.data import content
from jobs.data.content import check_unchanged, content_digest, fingerprint
from jobs.errors import DataError


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[str, Path]]:
    found = [(name, tmp_path / name) for name in ("a", "b")]
    for name, path in found:
        path.write_bytes(name.encode() * 1000)
    return found


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the files had been still for long enough to trust their times."""
    monkeypatch.setattr(content, "_SETTLED_SECONDS", -1.0)


def test_equal_bytes_are_equal_wherever_they_are(tmp_path: Path, files: list[tuple[str, Path]]) -> None:
    (tmp_path / "copy").write_bytes(files[0][1].read_bytes())
    memory = tmp_path / "memory"
    assert content_digest(files, memory) == content_digest([("a", tmp_path / "copy"), files[1]], memory)
    assert content_digest(files, memory) != content_digest(files[:1], memory)
    assert content_digest(files, memory) != content_digest([("c", files[0][1]), files[1]], memory), "names count too"


def test_the_digest_is_remembered(
    tmp_path: Path, files: list[tuple[str, Path]], settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = content_digest(files, tmp_path / "memory")
    monkeypatch.setattr(content, "_file_digest", lambda path: pytest.fail("read again"))
    assert content_digest(files, tmp_path / "memory") == first


def test_a_change_that_hides_its_size_and_time_is_seen(
    tmp_path: Path, files: list[tuple[str, Path]], settled: None
) -> None:
    before = content_digest(files, tmp_path / "memory")
    path = files[0][1]
    times = path.stat()
    path.write_bytes(b"x" * times.st_size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size and path.stat().st_mtime_ns == times.st_mtime_ns
    assert content_digest(files, tmp_path / "memory") != before


def test_files_still_warm_are_not_remembered(tmp_path: Path, files: list[tuple[str, Path]]) -> None:
    content_digest(files, tmp_path / "memory")
    assert not (tmp_path / "memory").exists()
    old = time.time() - 100
    os.utime(files[0][1], (old, old))
    content_digest(files, tmp_path / "memory")
    assert not (tmp_path / "memory").exists(), "a time that was set back is still a change of now"


def test_a_damaged_memory_is_forgotten(tmp_path: Path, files: list[tuple[str, Path]], settled: None) -> None:
    memory = tmp_path / "memory"
    digest = content_digest(files, memory)
    (remembered,) = memory.iterdir()
    for text in ("", digest[:40], "../../../etc/passwd", "Z" * 64):
        remembered.write_text(text)
        assert content_digest(files, memory) == digest
        assert remembered.read_text() == digest


def test_a_memory_that_cannot_be_written_costs_only_time(
    tmp_path: Path, files: list[tuple[str, Path]], settled: None
) -> None:
    (tmp_path / "memory").write_text("a file, not a directory")
    assert content_digest(files, tmp_path / "memory") == content_digest(files, tmp_path / "other")


def test_a_change_while_reading_is_noticed(files: list[tuple[str, Path]]) -> None:
    before = fingerprint(files)
    check_unchanged(files, before)
    files[1][1].write_bytes(b"other")
    with pytest.raises(DataError, match="changed while they were read"):
        check_unchanged(files, before)


def test_a_file_that_vanishes_is_a_data_error(tmp_path: Path, files: list[tuple[str, Path]]) -> None:
    files[0][1].unlink()
    with pytest.raises(DataError, match="'a' cannot be read"):
        content_digest(files, tmp_path / "memory")
