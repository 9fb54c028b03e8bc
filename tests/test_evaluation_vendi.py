import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.evaluation.vendi import vendi_score

REFERENCE = Path(__file__).parent / "reference_metrics"
VALUES = json.loads((REFERENCE / "reference_values.json").read_text())["values"]


@pytest.mark.parametrize("name", ["real", "fake", "collapsed", "memorised"])
def test_agrees_with_vendi_score(name: str) -> None:
    with np.load(REFERENCE / "features.npz") as file:
        features = torch.from_numpy(file[name].astype(np.float64))
    expected = VALUES[f"{name}/vendi_q1_cosine"]
    assert vendi_score(features) == pytest.approx(expected["vendi-score score_X"], rel=1e-9)
    assert vendi_score(features[:50]) == pytest.approx(by_definition(features[:50]), rel=1e-9)


def by_definition(features: torch.Tensor) -> float:
    unit = features / features.norm(dim=1, keepdim=True)
    eigenvalues = np.linalg.eigvalsh((unit @ unit.T / len(unit)).numpy())
    kept = eigenvalues[eigenvalues > 1e-15]
    return float(np.exp(-(kept * np.log(kept)).sum()))


def test_counts_different_images() -> None:
    assert vendi_score(torch.eye(7)) == pytest.approx(7)
    assert vendi_score(torch.eye(7).repeat(5, 1)) == pytest.approx(7)
    assert vendi_score(torch.ones(9, 4)) == pytest.approx(1)
