"""Two classes of many, and classes that are shown equally often."""

import hashlib
from dataclasses import replace

import numpy as np

from jobs.data.dataset import ImageDataset, LabelsI64
from jobs.errors import SpecError


def choose_classes(dataset: ImageDataset, *, against_rest: str | None, balance: bool) -> ImageDataset:
    """`dataset` with the class `against_rest` as 1 and every other as 0, and with equally long turns of its classes.

    Raises SpecError where there is no such class, or nothing else.
    """
    if against_rest is not None:
        dataset = _two_classes(dataset, against_rest)
    if balance:
        assert dataset.labels_N is not None, "the spec asks for labels"
        digest = _digest(dataset.digest, "balance")
        dataset = replace(dataset, turns_M=balanced_turns(np.asarray(dataset.labels_N)), digest=digest)
    return dataset


def balanced_turns(labels_N: LabelsI64) -> LabelsI64:
    """Images [M] of which every class has as many as the largest one: each of its images once, or in equal numbers."""
    places = [np.flatnonzero(labels_N == label) for label in np.unique(labels_N)]
    most = max(len(place) for place in places)
    return np.concatenate([np.resize(place, most) for place in places]).astype(np.int64)


def _two_classes(dataset: ImageDataset, wanted: str) -> ImageDataset:
    assert dataset.labels_N is not None, "the spec asks for labels"
    names = dataset.class_names
    number = names.index(wanted) if wanted in names else int(wanted) if wanted.isdecimal() else -1
    labels_N = (np.asarray(dataset.labels_N) == number).astype(np.int64)
    if not 0 < labels_N.sum() < len(labels_N):
        known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise SpecError(
            f"data.against_rest: {wanted!r} is not one of several classes of this data", hint=f"its classes: {known}"
        )
    name = names[number] if number < len(names) else wanted
    digest = _digest(dataset.digest, "against_rest", str(number))
    return replace(dataset, labels_N=labels_N, class_names=(f"not {name}", name), digest=digest)


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()
