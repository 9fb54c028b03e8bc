"""A worker learns from the spec itself which files a job reads."""

from pydantic import TypeAdapter

from jobs.spec.base import Section
from jobs.spec.data import DataPath, ImageData
from jobs.spec.inputs import inputs


def _data(**fields):
    return TypeAdapter(ImageData).validate_python({"resolution": 32, **fields})


def test_every_kind_of_data_names_its_files():
    assert inputs(_data(kind="zip", path="sets/cats.zip")) == {"path": "sets/cats.zip"}
    assert inputs(_data(kind="folder", path="s3://bucket/cats")) == {"path": "s3://bucket/cats"}
    both = _data(kind="idx", images="i.gz", labels_file="l.gz", labels=True)
    assert inputs(both) == {"images": "i.gz", "labels_file": "l.gz"}
    assert inputs(_data(kind="idx", images="i.gz")) == {"images": "i.gz"}
    assert inputs(_data(kind="modegrid")) == {}


def test_inputs_are_found_in_nested_sections_and_lists():
    class Inner(Section):
        weights: DataPath | None = None
        name: str = "not/a/path"

    class Outer(Section):
        inner: Inner
        many: tuple[Inner, ...] = ()

    section = Outer(inner=Inner(weights="a.pt"), many=(Inner(), Inner(weights="b.pt")))
    assert inputs(section) == {"inner.weights": "a.pt", "many[1].weights": "b.pt"}
