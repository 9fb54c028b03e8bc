"""From numbers to verdicts: limits, overrides, grace, patience; what a checkpoint keeps of it; what optimizers tell."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from jobs.diagnosis.detector import Detector, Finding, Limit, Measured
from jobs.diagnosis.examination import Examination, Memory
from jobs.diagnosis.ledger import RECENT, Ledger
from jobs.diagnosis.peaks import watching
from jobs.diagnosis.snapshot import learning_rates, memory_bytes, movements
from jobs.spec.diagnosis import Diagnosis


def detector(**changes) -> Detector[float]:
    return Detector(
        **{
            "name": "collapse",
            "watches": "a number",
            "measure": lambda value: None if value is None else Measured(value, "it"),
            "bad": "below",
            "failure": Limit(0.2, "theory"),
            "warning": Limit(0.5, "theory"),
            "means": "it is low",
            "hint": "raise it",
            **changes,
        }
    )


def examine(*values: float, spec: dict | None = None, images: int = 10_000, **changes) -> list[Finding]:
    """The verdicts on a series of values."""
    examination = Examination(Diagnosis.model_validate(spec or {}), 20_000, Memory())
    return [f for value in values for f in examination.judge([detector(**changes)], value, images)]


def levels(*values: float, **options) -> list[str]:
    return [finding.verdict for finding in examine(*values, **options)]


def test_levels_on_both_sides() -> None:
    assert levels(0.6, 0.4, 0.1) == ["healthy", "warning", "failure"]
    above = {"bad": "above", "failure": Limit(3.0, "theory"), "warning": Limit(2.0, "theory")}
    assert levels(1.0, 2.5, 4.0, **above) == ["healthy", "warning", "failure"]
    assert levels(1.0, 2.5, 4.0, **{**above, "warning": None}) == ["healthy", "healthy", "failure"]


def test_a_value_at_the_limit_is_not_beyond_it() -> None:
    assert levels(0.2, 0.5) == ["warning", "healthy"]


def test_patience_waits_for_a_second_failure_in_a_row() -> None:
    assert levels(0.1, 0.1, 0.6, 0.1, patience=2) == ["warning", "failure", "healthy", "warning"]


def test_before_the_grace_is_over_nothing_is_bad_and_nothing_counts() -> None:
    assert levels(0.1, images=5_999) == ["healthy"]
    assert levels(0.1, images=5_999, graceful=False) == ["failure"]
    assert levels(0.1, images=10, spec={"grace_images": 0}) == ["failure"]


@pytest.mark.parametrize(("planned", "grace"), [(1_000, 5_000), (40_000, 12_000), (25_000_000, 200_000)])
def test_the_grace_follows_the_length_of_the_run(planned: int, grace: int) -> None:
    assert Examination(Diagnosis(), planned, Memory()).grace_images == grace


def test_overrides_of_the_spec() -> None:
    assert levels(0.3, spec={"detectors": {"collapse": {"threshold": 0.35}}}) == ["failure"]
    assert levels(0.55, spec={"detectors": {"collapse": {"warning": 0.6}}}) == ["warning"]
    assert levels(0.1, spec={"detectors": {"collapse": {"enabled": False}}}) == []
    (finding,) = examine(0.3, spec={"detectors": {"collapse": {"threshold": 0.35}}})
    assert finding.threshold == 0.35 and "written in the spec" in finding.message


def test_a_threshold_beyond_the_default_warning_leaves_no_warning_behind_it() -> None:
    assert levels(0.6, 0.9, spec={"detectors": {"collapse": {"threshold": 0.7}}}) == ["failure", "healthy"]


def test_what_does_not_apply_says_nothing() -> None:
    assert examine(None) == []  # type: ignore[arg-type]


def test_a_finding_says_what_is_seen_what_it_means_and_what_to_try() -> None:
    (finding,) = examine(0.1)
    assert finding.message == "It is low. A number: 0.1 (it); failure below 0.2 (theory)"
    assert finding.said()["hint"] == "raise it"
    (healthy,) = examine(0.9)
    assert healthy.message == "A number: 0.9 (it)" and healthy.said()["hint"] is None


def test_actions_by_detector_and_by_default() -> None:
    spec = Diagnosis.model_validate({"on_failure": "stop", "detectors": {"collapse": {"action": "rollback"}}})
    examination = Examination(spec, 20_000, Memory())
    failure = Finding("collapse", "failure", 1, 0.0, 0.0, "")
    assert examination.action(failure) == "rollback"
    assert examination.action(Finding("spots", "failure", 1, 0.0, 0.0, "")) == "stop"
    assert examination.action(Finding("collapse", "warning", 1, 0.0, 0.0, "")) == "log"
    everything = Examination(Diagnosis(on_failure="rollback"), 20_000, Memory())
    assert everything.action(Finding("memory_growth", "failure", 1, 2.0, 1.0, "")) == "log", "a leak stays a leak"
    assert everything.action(Finding("wiring", "failure", 1, 2.0, 0.0, "")) == "log", "it raises by itself"
    assert spec.rolls_back and not Diagnosis().rolls_back
    assert Diagnosis().action("collapse") == "log"


def test_a_checkpoint_is_good_when_all_that_may_roll_back_is_healthy() -> None:
    spec = Diagnosis.model_validate({"detectors": {"collapse": {"action": "rollback"}}})
    memory = Memory(levels={"collapse": "healthy", "spots": "failure"})
    assert Examination(spec, 20_000, memory).may_return_here()
    memory.levels["collapse"] = "warning"
    assert not Examination(spec, 20_000, memory).may_return_here()


def test_memory_survives_being_saved() -> None:
    memory = Memory(levels={"spots": "warning"}, in_a_row={"spots": 1}, gradients=[1.0], good_images=32)
    assert Memory(**memory.state()) == memory


def fill(ledger: Ledger, start: int, stop: int) -> None:
    for step in range(start, stop):
        scalars = {"loss.a": torch.tensor(float(step))}
        if step % 4 == 0:
            scalars["loss.lazy"] = torch.tensor(step / 2)
        ledger.add(step, scalars)


def test_the_ledger_is_the_same_whenever_it_is_read_and_across_a_restart() -> None:
    once, often = Ledger(), Ledger()
    fill(once, 0, 50)
    for step in range(50):
        fill(often, step, step + 1)
        if step % 7 == 0:
            often.read()
        if step == 30:
            often = Ledger(often.state())
    for ledger in (once, often):
        ledger.close_window()
    assert once.state() == often.state()
    steps = once.steps(50, 100)
    assert steps.recent["loss.a"].tolist() == list(range(50))
    assert steps.recent["loss.lazy"].tolist() == [step / 2 for step in range(0, 50, 4)]
    assert steps.windows["loss.a"][-1] == (24.5, 24.5, 50)


def test_the_ledger_forgets_what_is_old() -> None:
    ledger = Ledger()
    fill(ledger, 0, RECENT + 10)
    ledger.close_window()
    recent = ledger.steps(1, 1).recent["loss.a"]
    assert len(recent) == RECENT and recent[-1] == RECENT + 9


def test_the_ledger_remembers_the_first_moment_that_was_not_finite() -> None:
    ledger = Ledger()
    ledger.add(16, {"loss.a": torch.tensor(1.0)})
    ledger.add(32, {"loss.a": torch.tensor(torch.nan), "loss.b": torch.tensor(2.0)})
    ledger.add(48, {"loss.a": torch.tensor(torch.inf), "loss.b": torch.tensor(torch.inf)})
    ledger.close_window()
    steps = ledger.steps(48, 100)
    assert (steps.first_bad_images, steps.bad_terms) == (32, ("loss.a",))
    assert steps.recent["loss.a"].tolist() == [1.0], "the rest can still be judged"


@pytest.mark.parametrize("betas", [(0.0, 0.99), (0.9, 0.999)])
def test_movements_are_what_the_last_step_really_did(betas: tuple[float, float]) -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 3).double()
    optimizer = Adam(network.parameters(), lr=0.01, betas=betas)
    for _ in range(4):
        before = [parameter.detach().clone() for parameter in network.parameters()]
        optimizer.zero_grad()
        network(torch.randn(7, 5, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    found = movements({"G": network}, {"G": optimizer})
    for (name, after), earlier in zip(network.named_parameters(), before, strict=True):
        expected = float((after.detach() - earlier).norm() / after.detach().norm())
        assert found[f"G.{name}"].relative_update == pytest.approx(expected, rel=1e-6)
    assert learning_rates({"G": optimizer}) == {"G": 0.01}


def test_movements_of_a_tensor_without_gradient_and_of_other_optimizers() -> None:
    network = nn.Linear(2, 2)
    optimizer = Adam(network.parameters(), lr=0.01)
    network.weight.grad = torch.zeros_like(network.weight)
    optimizer.step()
    assert movements({"G": network}, {"G": optimizer}) == {"G.weight": (0.0, 0.0)}
    assert movements({"G": network}, {"G": SGD(network.parameters(), lr=0.1)}) == {}
    assert memory_bytes() > 10**6


def test_peaks_are_seen_per_layer_and_hooks_are_gone_afterwards() -> None:
    class Spike(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            x[:, :, 5, 7] *= 50
            return x

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Spike(), nn.Conv2d(8, 3, 1))
    image = torch.rand(6, 3, 32, 32)
    expected = network(image)
    with watching(network) as peaks:
        assert torch.equal(network(image), expected)
    found = peaks.read()
    assert found is not None and found.paths_L == ("0", "1"), "three channels are no feature map"
    assert found.peak_LM.shape == (2, 6)
    assert (found.peak_LM[0] < 2).all() and (found.peak_LM[1] > 10).all()
    assert np.unravel_index(found.map_HW.argmax(), (32, 32)) == (5, 7)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_without_maps_shows_none() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    with watching(network) as peaks:
        network(torch.rand(2, 4))
    assert peaks.read() is None
