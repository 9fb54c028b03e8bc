"""The set that comes with gankiln."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.data import Roots, open_dataset
from jobs.data.shipped.fashion_mnist import CLASS_NAMES, smallest_png
from jobs.spec.data import SHIPPED_SETS, ImageZip
from tests.data_files import picture

SECTION = ImageZip(path="shipped:fashion-mnist-5000", resolution=32, channels="grey", fit="pad", labels=True)


def test_fashion_mnist_is_there_for_everyone(tmp_path: Path) -> None:
    dataset = open_dataset(SECTION, cache_dir=tmp_path, roots=Roots(tmp_path, ()))
    assert dataset.images_NCHW.shape == (5000, 1, 32, 32) and dataset.skipped == ()
    assert np.bincount(dataset.labels_N).tolist() == [500] * 10
    assert dataset.class_names == CLASS_NAMES
    frame = dataset.images_NCHW.copy()
    frame[:, :, 2:-2, 2:-2] = 0
    assert not frame.any(), "28 pixels between two of zeros"
    assert 70 < dataset.images_NCHW[:, :, 2:-2, 2:-2].mean() < 75, "the mean of Fashion-MNIST is 72.9"
    assert len(np.unique(dataset.images_NCHW.reshape(5000, -1), axis=0)) > 4990
    trousers, bags = (dataset.images_NCHW[dataset.labels_N == label].mean((0, 1)) for label in (1, 8))
    assert trousers[16, 2:6].max() < 10 < bags[16, 2:6].min(), "a trouser is narrow, a bag wide"


def test_every_shipped_set_carries_its_licence() -> None:
    for name in SHIPPED_SETS:
        path = Roots(Path()).locate(f"shipped:{name}", "data.path")
        with zipfile.ZipFile(path) as archive:
            licence = archive.read("LICENSE.txt").decode()
        assert "MIT License" in licence and "Copyright (c) 2017 Zalando SE" in licence
        assert licence == path.with_name(f"{name}.LICENSE.txt").read_text()
        assert path.stat().st_size < 3_000_000


def test_the_small_png_is_the_same_picture() -> None:
    for image in (picture(0, 28, 28, "L"), Image.linear_gradient("L").resize((28, 28)), Image.new("L", (28, 28))):
        data = smallest_png(np.asarray(image))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(image))
