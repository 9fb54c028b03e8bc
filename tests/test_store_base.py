"""Keys stay in their place, whatever somebody writes into a store."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.base import KEY_BYTES, SEGMENT_BYTES, BadKey, check_key, check_prefix, is_key, replacing


@pytest.mark.parametrize(
    "key",
    [
        "inbox/a.yaml",
        "a",
        "jobs/0123/log/00000001.json",
        "inbox/実験 1.yaml",
        "inbox/ünï.yaml",
        "a/..b/c..",
        "...",
        "x" * SEGMENT_BYTES,
    ],
)
def test_plain_keys_pass(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "1 to"),
        ("/a", "''"),
        ("a/", "''"),
        ("a//b", "''"),
        (".", "'.'"),
        ("a/..", "'..'"),
        ("../a", "'..'"),
        ("a\0b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\\..\\b", "backslash"),
        ("é\\b", "U+005C"),
        ("a\u202eb", "U+202E"),  # reverses what a person reads
        ("a\u200b", "U+200B"),  # invisible
        ("a\u2028", "U+2028"),
        ("a\ud800", "Unicode"),
        ("a\ue000", "U+E000"),
        (".gankiln-tmp-1", "writes in progress"),
        ("x" * (SEGMENT_BYTES + 1), "longer than"),
        ("é" * SEGMENT_BYTES, "longer than"),
        ("x/" * KEY_BYTES + "x", "1 to"),
    ],
)
def test_tricks_are_refused_with_the_reason(key: str, why: str) -> None:
    with pytest.raises(BadKey) as error:
        check_key(key)
    assert why in str(error.value)
    assert not is_key(key)


@given(st.text(max_size=60) | st.from_regex(r"[./\\a\x00~-]{1,12}"))
def test_what_passes_never_leaves_a_folder(key: str) -> None:
    if is_key(key):
        path = PurePosixPath("/store") / key
        assert path.parts[:2] == ("/", "store")
        assert ".." not in path.parts
        assert str(path) == f"/store/{key}"
        assert "\0" not in key


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b/"])
def test_prefixes(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/", "//", "../", "a/../", "a//"])
def test_bad_prefixes(prefix: str) -> None:
    with pytest.raises(BadKey):
        check_prefix(prefix)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]
