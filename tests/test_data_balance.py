"""One class against the rest, and classes that come equally often."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.data import balanced_turns
from jobs.data.stream import shown
from jobs.errors import SpecError
from jobs.spec.data import ImageZip
from tests.data_files import opened, pngs, write_zip

LABELS = [0] * 12 + [1] * 3 + [2] * 5


@pytest.fixture
def folder(tmp_path):
    names = list(pngs(20))
    write_zip(tmp_path / "set.zip", pngs(20), [[name, label] for name, label in zip(names, LABELS, strict=True)])
    return tmp_path


def open_zip(folder, **options):
    return opened(ImageZip(path="set.zip", resolution=8, labels=True, **options), folder)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_turns_are_equal_and_use_every_image(labels):
    label_N = np.array(labels)
    turns = balanced_turns(label_N)
    counts = np.bincount(label_N[turns])
    assert len(set(counts[counts > 0])) == 1 and set(turns) == set(range(len(labels)))
    for label in set(labels):
        times = np.bincount(turns)[label_N == label]
        assert times.max() - times.min() <= 1


def test_one_class_against_the_rest(folder):
    dataset = open_zip(folder, against_rest="1")
    assert dataset.class_names == ("not 1", "1")
    np.testing.assert_array_equal(dataset.labels_N, np.array(LABELS) == 1)
    assert dataset.digest != open_zip(folder).digest != open_zip(folder, against_rest="2").digest


def test_balanced_batches_show_both_equally_often(folder):
    dataset = open_zip(folder, against_rest="1", balance=True)
    assert len(dataset) == 2 * 17 and len(dataset.images_NCHW) == 20
    seen = dataset.gather(shown(len(dataset), 0, 0, len(dataset), mirror=False))
    assert seen.label_N.float().mean() == 0.5
    kinds = {image.numpy().tobytes() for image in seen.image_NCHW}
    assert len(kinds) == 20


@pytest.mark.parametrize("name", ["7", "shirts"])
def test_an_unknown_class_is_refused(folder, name):
    with pytest.raises(SpecError, match="not one of several classes"):
        open_zip(folder, against_rest=name)


def test_both_need_labels():
    for option in ({"against_rest": "8"}, {"balance": True}):
        with pytest.raises(ValidationError, match="needs the classes"):
            ImageZip(path="set.zip", resolution=8, **option)
