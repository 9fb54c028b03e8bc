from jobs.evaluation.rows import MetricRow


def test_plain_values_leave_out_what_is_not_known() -> None:
    row = MetricRow(metric="fd", features="pixels", value=0.0, images=0, samples=30)
    assert row.as_dict() == {"metric": "fd", "features": "pixels", "value": 0.0, "images": 0, "samples": 30}
    labelled = MetricRow(metric="fd", features="pixels", value=1.0, images=0, samples=30, label="untrained", seed=0)
    assert labelled.as_dict() | {"label": "untrained", "seed": 0} == labelled.as_dict()
