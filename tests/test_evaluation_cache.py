from pathlib import Path

import numpy as np
import pytest

from jobs.evaluation.cache import cached, keep


def test_computed_once_for_each_thing_it_depends_on(tmp_path: Path) -> None:
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.arange(3.0) + len(calls)

    first = cached(tmp_path, "pixels", ("digest", 1), compute)
    assert np.array_equal(cached(tmp_path, "pixels", ("digest", 1), compute), first)
    assert not np.array_equal(cached(tmp_path, "pixels", ("digest", 2), compute), first)
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 2  # nothing is left aside


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array"])
def test_a_torn_file_is_computed_again(tmp_path: Path, content: bytes) -> None:
    cached(tmp_path, "a", (), lambda: np.ones(2))
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert cached(tmp_path, "a", (), lambda: np.full(2, 7.0)).tolist() == [7, 7]
    assert cached(tmp_path, "a", (), lambda: np.zeros(2)).tolist() == [7, 7]


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    cached(tmp_path, "a", (), lambda: np.ones(2))
    (path,) = tmp_path.iterdir()
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert cached(tmp_path, "a", (), lambda: np.zeros(1)).tolist() == [0]


def test_half_a_file_never_takes_the_place_of_a_whole_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "kept").write_text("whole")
    keep(tmp_path / "kept", fails)
    assert (tmp_path / "kept").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert "disk full" in caplog.text
