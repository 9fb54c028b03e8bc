import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.evaluation.classifier_score import classifier_score

REFERENCE = Path(__file__).parent / "reference_metrics"
VALUES = json.loads((REFERENCE / "reference_values.json").read_text())["values"]


def test_agrees_with_torch_fidelity() -> None:
    with np.load(REFERENCE / "logits.npz") as file:
        logits = torch.from_numpy(file["logits"].astype(np.float64))
    one = VALUES["inception_score_splits1_shuffleFalse/mean"]["torch-fidelity (std ddof=0)"]
    ten = VALUES["inception_score_splits10_shuffleFalse/mean"]["torch-fidelity (std ddof=0)"]
    assert classifier_score(logits) == pytest.approx(one, rel=1e-9)
    assert np.mean([classifier_score(split) for split in logits.split(100)]) == pytest.approx(ten, rel=1e-9)


def test_from_one_to_the_number_of_classes() -> None:
    assert classifier_score(50 * torch.eye(6)) == pytest.approx(6)
    assert classifier_score(torch.zeros(4, 6)) == pytest.approx(1)
    assert classifier_score(50 * torch.eye(6)[[2, 2, 2]]) == pytest.approx(1)
