"""YAML to values with positions: what is refused, and where it says so."""

import pytest

from jobs.errors import SpecError
from jobs.spec.yaml_tree import SPEC_LIMIT_BYTES, Position, parse


def refusal(text: str | bytes) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text, "s.yaml")
    return caught.value.message


def test_values_and_positions():
    tree = parse("a: 1\nb:\n  - x\n  - {c: 2.5}\n", "s.yaml")
    assert tree.value == {"a": 1, "b": ["x", {"c": 2.5}]}
    assert tree.position(("a",)) == Position(1, 1)
    assert tree.position(("b", 1, "c")) == Position(4, 6)
    assert tree.position(("b", 1, "missing")) == Position(4, 5)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1e-4", 1e-4), ("10e-5", 1e-4), ("1_000", 1000), ("010", 10), ("off", "off"), ("no", "no"), ("yes", "yes"),
        ("true", True), ("null", None), ("~", None), ("12:30", "12:30"), ("2026-01-01", "2026-01-01"), (".5", 0.5),
        ("-3", -3), ("'1'", "1"), ("+1.5E+3", 1500.0),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(written: str, read: object):
    value = parse(f"key: {written}", "s.yaml").value["key"]
    assert value == read and type(value) is type(read)


def test_a_duplicate_key_names_both_lines():
    assert "s.yaml:3:1: the key 'a' is written twice (first in line 1)" in refusal("a: 1\nb: 2\na: 3\n")


def test_an_anchor_bomb_is_refused():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(8)
    )
    assert "once its anchors are expanded" in refusal(bomb)


def test_a_recursive_anchor_is_refused():
    assert "deeper" in refusal("a: &a\n  b: *a\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("just words", "a spec is a mapping"),
        ("- 1\n- 2\n", "a spec is a mapping of keys to values, got a list"),
        ("a: [1, 2", "not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "s.yaml"),
        ("a: !!python/name:os.system ''", "is not allowed"),
        (b"\xff\xfe\x00bin", "not text in UTF-8"),
        (b"a: \x00", "binary"),
        ("[" * 2000, "s.yaml"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("? [1, 2]\n: 3\n", "a key must be a word"),
        ("a: \tb", "s.yaml"),
    ],
)
def test_what_is_not_a_plain_mapping_is_refused(text: str | bytes, said: str):
    assert said in refusal(text)


def test_a_python_tag_runs_nothing(tmp_path):
    target = tmp_path / "made"
    refusal(f"a: !!python/object/apply:os.mkdir ['{target}']")
    assert not target.exists()


def test_too_large_is_refused_before_it_is_parsed():
    assert "a spec holds at most" in refusal("a: " + "x" * SPEC_LIMIT_BYTES)
