import numpy as np
import torch

from jobs.evaluation.modes import classes, clusters, half_of_modes


def test_every_second_mode_is_kept_whole() -> None:
    modes = np.array([5, 5, 7, 9, 9, 11, 7])
    assert half_of_modes(modes).tolist() == [True, True, False, True, True, False, False]
    assert not half_of_modes(np.zeros(4, dtype=int)).any()  # one mode has no half


def test_classes_of_integers_and_of_one_hot_rows() -> None:
    assert classes(np.array([3, 1])).tolist() == [3, 1]
    assert classes(np.array([[0, 0, 1], [1, 0, 0]])).tolist() == [2, 0]


def test_clusters_find_what_is_apart() -> None:
    centres = torch.eye(10) * 100
    features = centres.repeat_interleave(20, 0) + torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    found = clusters(features, seed=1)
    assert len(np.unique(found)) == 10
    assert all(len(np.unique(group)) == 1 for group in np.split(found, 10))
    assert np.array_equal(clusters(features, seed=1), found)


def test_fewer_different_images_than_clusters() -> None:
    assert len(np.unique(clusters(torch.tensor([[0.0], [0.0], [9.0], [9.0]]), seed=0))) == 2
    assert len(np.unique(clusters(torch.zeros(5, 2), seed=0))) == 1
