import subprocess
import sys

import pytest
from pydantic import ValidationError

from jobs.spec.evaluation import Evaluation


def test_defaults_are_a_laptops() -> None:
    section = Evaluation()
    assert (section.samples, section.every_images, section.sanity) == (1000, None, True)
    assert section.features == ("pixels", "random_conv", "efficientnet_lite0")
    assert [section.neighbours(metric) for metric in ("precision", "recall", "density", "coverage")] == [3, 3, 5, 5]
    assert Evaluation(nearest_neighbours=4).neighbours("coverage") == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": ["pixels", "pixels"]}, "pixels is listed more than once"),
        ({"metrics": ["fid_score"]}, "Input should be"),
        ({"metrics": []}, "at least 1"),
        ({"samples": 1}, "greater than or equal to 2"),
        ({"sample": 10}, "Extra inputs"),
    ],
)
def test_wrong_sections_are_refused(wrong, message) -> None:
    with pytest.raises(ValidationError, match=message):
        Evaluation.model_validate(wrong)


def test_every_field_is_described() -> None:
    assert [name for name, field in Evaluation.model_fields.items() if not field.description] == []


def test_needs_no_torch() -> None:
    code = "import sys, jobs.spec.evaluation; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
