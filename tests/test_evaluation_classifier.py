from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.errors import SpecError
from jobs.evaluation import classifier
from jobs.evaluation.classifier import Labelled, open_classifier, prepare
from jobs.evaluation.evaluator import Evaluator
from jobs.spec.evaluation import Evaluation
from tests.pretend_device import AWAY, pretended

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "LEAST_IMAGES_SHOWN", 4000)


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Upright or lying stripes of any phase: classes 3 and 7."""
    rng = np.random.RandomState(seed)
    labels = rng.choice([3, 7], count)
    wave = 127 + 90 * np.sin(np.arange(12) * 2 + rng.uniform(0, 6, (count, 1)))
    upright = np.broadcast_to(wave[:, None, :], (count, 12, 12))
    image = np.where((labels == 3)[:, None, None], upright, upright.transpose(0, 2, 1)) + rng.normal(
        0, 10, (count, 12, 12)
    )
    return image.clip(0, 255).astype(np.uint8)[:, None], labels


def test_learns_the_classes_and_says_how_well(tmp_path: Path) -> None:
    image_NCHW, labels_N = stripes(300, 0)
    trained = open_classifier(Labelled(image_NCHW, labels_N, "a"), tmp_path, CPU)
    assert trained.accuracy > 0.9 and trained.count == 2
    fresh, expected = stripes(50, 1)
    with torch.inference_mode():
        logits = trained.network.head(trained.network(prepare(torch.from_numpy(fresh))))
    assert (np.array([3, 7])[logits.argmax(1)] == expected).mean() > 0.9


def test_is_trained_once_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_NCHW, labels_N = stripes(100, 0)
    labelled = Labelled(image_NCHW, labels_N, "a")
    random_state = torch.get_rng_state()
    first = open_classifier(labelled, tmp_path, CPU)
    assert torch.equal(torch.get_rng_state(), random_state)  # training draws its noise from this
    other = open_classifier(labelled, tmp_path / "other", CPU)
    monkeypatch.setattr(classifier, "train", None)
    again = open_classifier(labelled, tmp_path, CPU)
    assert again.accuracy == first.accuracy == other.accuracy
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
        assert torch.equal(tensor, other.network.state_dict()[name])


def test_what_was_kept_is_read_onto_the_device(tmp_path: Path) -> None:
    image_NCHW, labels_N = stripes(100, 0)
    labelled = Labelled(image_NCHW, labels_N, "a")
    open_classifier(labelled, tmp_path, CPU)
    with pretended():
        again = open_classifier(labelled, tmp_path, AWAY)
        assert again.network(prepare(torch.from_numpy(image_NCHW).to(AWAY))).device == AWAY


def test_one_class_is_refused(tmp_path: Path) -> None:
    image_NCHW, _ = stripes(20, 0)
    with pytest.raises(SpecError, match="one class"):
        open_classifier(Labelled(image_NCHW, np.zeros(20, dtype=int), "a"), tmp_path, CPU)


def test_the_score_of_real_stripes_is_two(tmp_path: Path) -> None:
    """As a feature space: rows carry the classifier's accuracy, and the score counts both classes."""
    image_NCHW, labels_N = stripes(300, 0)
    section = Evaluation(samples=60, features=("classifier",), metrics=("fd", "classifier_score"))
    one_hot = np.eye(8)[labels_N]
    evaluator = Evaluator(section, image_NCHW, digest="a", cache_dir=tmp_path, device=CPU, labels_N=one_hot)
    rows = evaluator.measure(lambda n, seed: torch.from_numpy(stripes(n, seed)[0] / 127.5 - 1), 0)
    assert [row.metric for row in rows] == ["fd", "classifier_score"]
    assert 1.6 < rows[1].value <= 2
    assert all("classifier of 2 classes, right on" in (row.note or "") for row in rows)
