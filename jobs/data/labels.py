"""`dataset.json` as StyleGAN's dataset tool writes it: {"labels": [["00000/img00000000.png", 6], ...]} or null.

One key of our own, which StyleGAN ignores: "class_names", a list of strings, the names of the classes 0, 1, ...
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.data.dataset import LabelsI64
from jobs.data.source import printable
from jobs.errors import DataError

Labels = tuple[LabelsI64, tuple[str, ...]]
"""The class of every image, and the names of the classes."""

FILE_NAME = "dataset.json"
MAX_CLASSES = 1 << 16
"""A class costs a row of weights in both networks; a number beyond this is a mistake or an attack."""

_HINT = 'labels look like {"labels": [["00000/img00000000.png", 6], ...]}; or set data.labels to false'


def read_labels(data: bytes | None, names: Sequence[str]) -> Labels:
    """Labels of `names` and the names of the classes, from the bytes of a dataset.json. Raises DataError."""
    if data is None:
        raise DataError(f"data.labels: the set has no {FILE_NAME}, so its images have no classes", hint=_HINT)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"data.labels: {FILE_NAME} is not JSON: {error}", hint=_HINT) from None
    table = _table(content)
    missing = [name for name in names if name not in table]
    if missing:
        raise DataError(
            f"data.labels: {FILE_NAME} has no label for {len(missing)} of {len(names)} images, "
            f"{printable(missing[0])} among them",
            hint=_HINT,
        )
    labels_N = np.array([table[name] for name in names], dtype=np.int64)
    return labels_N, _class_names(content, int(labels_N.max(initial=-1)) + 1)


def _table(content: Any) -> dict[str, int]:
    rows = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        kind = "null" if rows is None else type(rows).__name__
        raise DataError(f"data.labels: {FILE_NAME} must hold a list of labels, but holds {kind}", hint=_HINT)
    wrong = next((row for row in rows if not _is_label(row)), None)
    if wrong is not None:
        raise DataError(
            f"data.labels: {FILE_NAME} has {printable(repr(wrong))}; "
            f"a label is [name, class] with a whole number from 0 to {MAX_CLASSES - 1}",
            hint=_HINT,
        )
    return {name.replace("\\", "/"): label for name, label in rows}


def _is_label(row: Any) -> bool:
    match row:
        case [str(), bool()]:
            return False
        case [str(), int(label)]:
            return 0 <= label < MAX_CLASSES
        case _:
            return False


def _class_names(content: dict[str, Any], classes: int) -> tuple[str, ...]:
    """Names for every class: the file's where it has enough of them, else numbers."""
    given = content.get("class_names")
    if isinstance(given, list) and len(given) >= classes and all(isinstance(name, str) for name in given):
        return tuple(printable(name) for name in given[:MAX_CLASSES])
    return tuple(str(label) for label in range(classes))
