"""dataset.json as StyleGAN writes it, and as it must not be."""

import json

import numpy as np
import pytest

from jobs.data.labels import MAX_CLASSES, read_labels
from jobs.errors import DataError

NAMES = ["00000/a.png", "00000/b.png", "c.png"]


def table(labels: object, **more: object) -> bytes:
    return json.dumps({"labels": labels, **more}).encode()


def test_labels_in_the_order_of_the_images() -> None:
    labels_N, names = read_labels(table([["c.png", 4], ["00000/a.png", 1], ["00000/b.png", 0], ["other", 9]]), NAMES)
    assert labels_N.tolist() == [1, 0, 4] and labels_N.dtype == np.int64
    assert names == ("0", "1", "2", "3", "4")


def test_names_with_backslashes_as_windows_writes_them() -> None:
    assert read_labels(table([["00000\\a.png", 7]]), NAMES[:1])[0].tolist() == [7]


def test_class_names_are_an_addition() -> None:
    rows = [[name, index] for index, name in enumerate(NAMES)]
    assert read_labels(table(rows, class_names=["cat", "dog", "\x1bcow", "unseen"]), NAMES)[1] == (
        "cat", "dog", "\\x1bcow", "unseen",
    )  # fmt: skip
    for wrong in (["cat"], "cat", [1, 2, 3], None):
        assert read_labels(table(rows, class_names=wrong), NAMES)[1] == ("0", "1", "2")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "has no dataset.json"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "must hold a list of labels, but holds null"),
        (table(None), "but holds null"),
        (table({"a": 1}), "but holds dict"),
        (table([["00000/a.png", 1], ["c.png", 0]]), "no label for 1 of 3 images, 00000/b.png among them"),
        (table([["a.png", 1.5]]), r"has \['a.png', 1.5\]"),
        (table([["a.png", [0, 1]]]), "a label is"),
        (table([["a.png", True]]), "a label is"),
        (table([["a.png", -1]]), "a label is"),
        (table([["a.png", MAX_CLASSES]]), f"from 0 to {MAX_CLASSES - 1}"),
        (table([["a.png"]]), "a label is"),
        (table([7]), "a label is"),
    ],
)
def test_what_cannot_be_labels_is_refused(data: bytes | None, says: str) -> None:
    with pytest.raises(DataError, match=says) as error:
        read_labels(data, NAMES)
    assert error.value.hint is not None and "data.labels" in error.value.hint
