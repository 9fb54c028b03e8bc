"""`gankiln check`: the plan for people and for programs."""

import json

from service.plan import plan, print_plan
from tests.tiny import loaded


def test_the_plan_shows_every_derived_value_with_its_formula(capsys):
    print_plan(loaded(**{"recipe.r1": {"gamma": "auto"}}), as_json=False)
    printed = capsys.readouterr().out
    assert "recipe.r1.gamma" in printed and "0.0002 · resolution² / batch" in printed
    assert "warning" in printed and "estimated memory" in printed and "each in 2" in printed


def test_the_plan_as_json_holds_the_resolved_spec(capsys):
    print_plan(loaded(), as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["iterations"] == 16 and facts["accumulation"] == 2
    assert facts["parameters"] == {"G": 12271, "D": 35829}
    assert facts["resolved"]["recipe"]["path_length"]["weight"] == 2.0


def test_memory_grows_with_the_micro_batch_and_with_the_batch_only_by_its_images():
    small, accumulated, large = (
        plan(loaded(**{"training.batch": batch, "training.micro_batch": micro}))["memory_bytes"]
        for batch, micro in ((16, 8), (32, 8), (32, 32))
    )
    assert accumulated - small == 16 * 3 * 32 * 32 * 4, "the images of the batch themselves, in float32"
    assert accumulated < large


def test_absent_weights_are_told_before_training(capsys, monkeypatch):
    monkeypatch.setattr("service.plan.missing_weights", lambda _section, _folder: ["inception: not here"])
    print_plan(loaded(), as_json=False)
    assert "inception: not here" in capsys.readouterr().out
