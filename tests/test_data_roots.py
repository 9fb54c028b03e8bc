"""A spec reads what it may read, and learns nothing about the rest."""

from pathlib import Path

import pytest

from jobs.data.roots import Roots
from jobs.errors import DataError, SpecError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "data" / "cats").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "data" / "door").symlink_to(tmp_path / "secret")
    (tmp_path / "data" / "inner").symlink_to(tmp_path / "data" / "cats")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data" / "loop")
    return tmp_path


def test_a_person_may_read_anything(place: Path) -> None:
    roots = Roots(place / "data")
    assert roots.locate("cats", "data.path") == place / "data" / "cats"
    assert roots.locate("../secret", "data.path") == place / "secret"
    assert roots.locate(str(place / "secret"), "data.path") == place / "secret"
    assert roots.locate("door", "data.path") == place / "secret"


def test_a_submitted_spec_stays_inside(place: Path) -> None:
    roots = Roots(place / "data", (place / "data",))
    assert roots.locate("cats", "data.path") == place / "data" / "cats"
    assert roots.locate("inner", "data.path") == place / "data" / "cats"
    assert roots.locate("cats/../inner", "data.path") == place / "data" / "cats"


@pytest.mark.parametrize(
    "path", ["../secret", "door", "door/deeper", "/", "/etc/passwd", "..", "cats/../../secret", "/x/y"]
)
def test_a_submitted_spec_does_not_get_out(place: Path, path: str) -> None:
    with pytest.raises(SpecError, match=r"data\.path: .* leads outside") as error:
        Roots(place / "data", (place / "data",)).locate(path, "data.path")
    assert str(place / "data") in str(error.value)


def test_what_is_outside_looks_the_same_whether_it_exists(place: Path) -> None:
    roots = Roots(place / "data", (place / "data",))
    said = []
    for path in ("../secret", "../nothing"):
        with pytest.raises(SpecError) as error:
            roots.locate(path, "data.path")
        said.append(str(error.value).replace(path, "PATH"))
    assert said[0] == said[1]


def test_an_allowed_root_may_itself_be_a_link(place: Path) -> None:
    assert Roots(place, (place / "data" / "inner",)).locate("data/cats", "data.path") == place / "data" / "cats"


def test_a_sibling_with_the_same_beginning_is_outside(place: Path) -> None:
    (place / "data2").mkdir()
    with pytest.raises(SpecError):
        Roots(place, (place / "data",)).locate("data2", "data.path")


def test_without_roots_only_shipped_sets(place: Path) -> None:
    roots = Roots(place, ())
    assert roots.locate("shipped:fashion-mnist-5000", "data.path").is_file()
    with pytest.raises(SpecError, match="none, only shipped sets"):
        roots.locate("data/cats", "data.path")


@pytest.mark.parametrize(
    ("path", "says"), [("dogs", "nothing at 'dogs'"), ("loop", "loop|nothing"), ("x" * 300, "too long")]
)
def test_a_missing_path(place: Path, path: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as error:
        Roots(place / "data").locate(path, "data.path")
    assert error.value.exit_code == 65


def test_a_missing_relative_path_says_where_it_was_looked_for(place: Path) -> None:
    with pytest.raises(DataError, match=f"relative paths begin at '{place}'"):
        Roots(place).locate("dogs", "data.path")


def test_an_address_is_where_a_worker_put_it(place: Path) -> None:
    (place / "s3" / "bucket").mkdir(parents=True)
    (place / "s3" / "bucket" / "cats.zip").write_bytes(b"")
    roots = Roots(place, (place / "s3",))
    assert roots.locate("s3://bucket/cats.zip", "data.path") == place / "s3" / "bucket" / "cats.zip"
    with pytest.raises(DataError, match="only a worker fetches addresses"):
        roots.locate("s3://bucket/dogs.zip", "data.path")
    with pytest.raises(SpecError, match="leads outside"):
        roots.locate("s3://../secret", "data.path")
