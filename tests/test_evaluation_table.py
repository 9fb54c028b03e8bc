import pytest
import torch

from jobs.evaluation import table
from jobs.evaluation.features import Extractor
from jobs.evaluation.rows import MetricRow
from jobs.spec.evaluation import Evaluation

ROW = MetricRow(metric="", features="x", value=0.0, images=3, samples=30)
ALL = ("fd", "kid", "precision", "recall", "density", "coverage", "vendi", "memorisation")


def measured(space: str, metrics: tuple[str, ...], count: int = 30, **extractor) -> list[MetricRow]:
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.rand(2, count, 5, generator=rng).double()
    section = Evaluation.model_construct(**{**Evaluation().__dict__, "metrics": metrics, "kid_subsets": 3})
    opened = Extractor(space, "none", "1", lambda x: x, torch.device("cpu"), **extractor)
    return table.rows(table.Comparison(table.Reference(real, section), fake, opened, ROW, side=9))


def names(space: str, metrics: tuple[str, ...], **extractor) -> list[str]:
    return [row.metric for row in measured(space, metrics, **extractor)]


def test_every_space_measures_every_metric_of_features() -> None:
    for space in ("pixels", "efficientnet_lite0", "vgg16"):
        assert names(space, ALL) == list(ALL)


def test_only_inceptions_distance_is_called_fid_and_stands_once() -> None:
    assert names("inception_v3", ("fd",)) == ["fid"]
    assert names("inception_v3", ("fid",)) == ["fid"]
    assert names("inception_v3", ("fd", "fid")) == ["fid"]
    assert names("pixels", ("fid",)) == []


def test_special_metrics_stand_where_they_belong() -> None:
    everything = (*ALL, "classifier_score", "spectrum_gap", "lpips_diversity", "ppl_w")
    assert names("spectrum", everything) == ["spectrum_gap"]
    assert names("lpips_alex", everything) == ["lpips_diversity"]
    assert names("pixels", everything) == list(ALL)
    head = torch.nn.Linear(5, 4).double().requires_grad_(False)
    assert names("classifier", everything, head=head) == [*ALL, "classifier_score"]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_tiny_sets_use_the_neighbours_they_have(count: int) -> None:
    rows = measured("pixels", ("precision", "coverage", "fd", "kid", "memorisation"), count=count)
    assert {row.note for row in rows if row.metric == "coverage"} == {f"k = {min(5, count - 1)}"}
    assert all(row.value == row.value for row in rows)


def test_rows_keep_what_they_share_and_say_what_their_features_are() -> None:
    for row in measured("classifier", ALL, note="right on 9 of 10"):
        assert (row.images, row.samples, row.features) == (3, 30, "x")
        assert "right on 9 of 10" in (row.note or "")
        assert row.interval_low is not None and row.interval_low <= row.value <= (row.interval_high or 0)
