"""A study run here: every run once, resumable, compared; searched, pruned, within its budget."""

import fcntl
import json

import numpy as np
import pytest

from jobs.errors import DataError, Diverged, Interrupted, SpecError
from jobs.study import compare_here, conduct, load_here
from jobs.study.conduct import read_trials
from tests.study_kit import StandIn, gamma_quality, study, width_quality

SPACE = {"recipe.r1.gamma": {"low": 0.01, "high": 1000.0, "log": True}}


def silent(report):
    pass


def comparable(report):
    return report.model_dump(exclude={"written"})


def test_every_run_is_trained_once_and_equal_ones_are_shared(tmp_path):
    asked = study(list={"same": {"recipe.r1.gamma": 1.0}, "small": {"recipe.generator.channels_base": 64}}, seeds=3)
    train = StandIn(width_quality)
    report = conduct(asked, tmp_path, train, silent)
    assert len(train.trained) == len(set(train.trained)) == 6
    assert report.complete and report.runs == {"finished": 9}
    assert report.images == 6 * 256
    by_name = {row.name: row for row in report.variants}
    assert by_name["same"].primary.side == "equal"
    assert by_name["small"].primary.side == "worse" and by_name["small"].primary.wins == 0
    assert "small is worse than the baseline" in report.answer
    conduct(asked, tmp_path, train, silent)
    assert len(train.trained) == 6


def test_a_study_that_was_stopped_goes_on_and_ends_the_same(tmp_path):
    asked = study(ablate={"recipe.r1.gamma": [0, 10]}, seeds=2)
    straight = conduct(asked, tmp_path / "straight", StandIn(gamma_quality), silent)
    train = StandIn(gamma_quality)
    for stop_after in (1, 4):
        train.stop_after = stop_after
        with pytest.raises(Interrupted):
            conduct(asked, tmp_path / "broken", train, silent)
        assert not compare_here(load_here(tmp_path / "broken"), tmp_path / "broken").complete
    train.stop_after = None
    assert comparable(conduct(asked, tmp_path / "broken", train, silent)) == comparable(straight)


def test_a_comparison_is_there_at_any_time(tmp_path):
    asked = study(ablate={"recipe.r1.gamma": [0, 10]}, seeds=3)
    seen = []
    conduct(asked, tmp_path, StandIn(gamma_quality), seen.append)
    assert [sum(r.runs.get(s, 0) for s in ("finished",)) for r in seen] == list(range(1, 10))
    assert seen[0].answer.startswith("So far")
    assert "One seed decides nothing" in seen[2].answer
    assert seen[2].variants[1].primary.interval_low is None
    assert not seen[-1].answer.startswith("So far")


def test_a_run_that_fails_by_itself_costs_only_itself(tmp_path):
    asked = study(ablate={"recipe.r1.gamma": [0, 10]}, seeds=2)
    stand_in = StandIn(gamma_quality)

    def train(run, *rest):
        if run.variant == "gamma-0":
            raise Diverged("loss.g is not finite at 48 images") if run.seed == 1 else ZeroDivisionError("a bug")
        stand_in(run, *rest)

    report = conduct(asked, tmp_path, train, silent)
    assert report.complete and report.runs == {"finished": 4, "failed": 2}
    row = report.variants[1]
    assert row.sentence == "All of its 2 runs failed."
    assert {run.message for run in row.runs} == {"loss.g is not finite at 48 images", "ZeroDivisionError: a bug"}
    assert "gamma-0, seed 1, failed: loss.g is not finite at 48 images" in report.notes


def test_what_would_stop_every_run_stops_the_study(tmp_path):
    def train(*_):
        raise DataError("there is no data")

    with pytest.raises(DataError):
        conduct(study(ablate={"recipe.r1.gamma": 0}), tmp_path, train, silent)


def test_a_directory_holds_one_study(tmp_path):
    conduct(study(ablate={"recipe.r1.gamma": 0}, seeds=1), tmp_path, StandIn(gamma_quality), silent)
    with pytest.raises(SpecError, match="another baseline"):
        conduct(study([("training", "images", 512)], ablate={"recipe.r1.gamma": 0}), tmp_path, None, silent)
    with pytest.raises(SpecError, match="holds no study"):
        load_here(tmp_path / "runs")
    more = study(ablate={"recipe.r1.gamma": 0}, seeds=2)
    train = StandIn(gamma_quality)
    conduct(more, tmp_path, train, silent)
    assert {seed for _, seed in train.trained} == {2}


def test_the_files_say_the_same(tmp_path):
    report = conduct(study(ablate={"recipe.r1.gamma": [0, 10]}, seeds=3), tmp_path, StandIn(gamma_quality), silent)
    assert json.loads((tmp_path / "study.json").read_text()) == json.loads(json.dumps(report.model_dump(mode="json")))
    text = (tmp_path / "study.md").read_text()
    assert report.answer in text and "| gamma-10 | recipe.r1.gamma = 10 |" in text
    assert len((tmp_path / "study.csv").read_text().splitlines()) == 1 + 2
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 1 + 9 * 5


def test_a_planted_effect_is_found_and_none_where_there_is_none(tmp_path):
    """Half the width is worse; a key that changes nothing is trained with noise of its own, and is no difference.

    An interval of 95 % misses once in twenty: three misses of ten would be 1 chance in 90.
    """
    asked = study(
        list={"half": {"recipe.generator.channels_base": 64}, "null": {"training.progress_seconds": 5}}, seeds=5
    )
    said = []
    for repeat in range(10):
        report = conduct(asked, tmp_path / str(repeat), StandIn(width_quality, noise=0.4, repeat=repeat), silent)
        half, null = (row.primary for row in report.variants[1:])
        assert half.side == "worse" and half.difference == pytest.approx(2.0, abs=1.0)
        said.append(null.side)
        assert ("null is" in report.answer) == (null.side != "unclear")
    assert said.count("unclear") >= 8


def test_a_search_finds_what_is_better_and_asks_other_seeds_whether_it_is(tmp_path):
    asked = study(search={"space": SPACE, "trials": 12}, seeds=3)
    train = StandIn(gamma_quality)
    report = conduct(asked, tmp_path, train, silent)
    search = report.search
    assert report.complete and len(search.trials) == 12
    best = next(trial for trial in search.trials if trial.number == search.best)
    assert 2 < best.values["recipe.r1.gamma"] < 50
    assert best.value < search.baseline
    assert [row.name for row in report.variants] == ["baseline", f"trial-{best.number:03d}"]
    assert report.variants[1].primary.seeds == 3 and report.variants[1].primary.side == "better"
    assert asked.written.seed not in asked.seeds
    late = [trial.values["recipe.r1.gamma"] for trial in search.trials[5:]]
    assert np.mean(np.abs(np.log10(late) - 1)) < 1.2


def test_a_search_that_was_stopped_asks_the_same_trials(tmp_path):
    asked = study(search={"space": SPACE, "trials": 8, "prune": "median", "startup_trials": 3}, seeds=2)
    straight = conduct(asked, tmp_path / "straight", StandIn(gamma_quality), silent)
    train = StandIn(gamma_quality)
    for stop_after in (3, 6):
        train.stop_after = stop_after
        with pytest.raises(Interrupted):
            conduct(asked, tmp_path / "broken", train, silent)
    train.stop_after = None
    assert comparable(conduct(asked, tmp_path / "broken", train, silent)) == comparable(straight)


@pytest.mark.parametrize("prune", ["median", "halving"])
def test_a_hopeless_trial_is_given_up_at_an_evaluation(tmp_path, prune):
    asked = study(search={"space": SPACE, "trials": 12, "prune": prune, "startup_trials": 3, "sampler": "random"})
    report = conduct(asked, tmp_path, StandIn(gamma_quality, noise=0.0), silent)
    pruned = [trial for trial in report.search.trials if trial.state == "pruned"]
    finished = [trial for trial in report.search.trials if trial.state == "finished"]
    assert pruned and finished and report.complete
    assert all(0 < trial.images < 256 and trial.value is not None for trial in pruned)
    best = min(abs(np.log10(trial.values["recipe.r1.gamma"]) - 1) for trial in report.search.trials)
    assert min(abs(np.log10(trial.values["recipe.r1.gamma"]) - 1) for trial in finished) == best


def test_a_search_keeps_to_its_budget_and_still_asks_its_finalists(tmp_path):
    asked = study(search={"space": SPACE, "trials": 12}, seeds=2, budget={"images": 256 * 9})
    report = conduct(asked, tmp_path, StandIn(gamma_quality), silent)
    assert len(report.search.trials) == 4 and report.images == 256 * 9 and report.complete
    assert report.variants[1].primary.seeds == 2


def test_hours_end_a_study_between_two_runs(tmp_path):
    hours = 256 / 10 * 3.5 / 3600
    report = conduct(
        study(ablate={"recipe.r1.gamma": [0, 10]}, budget={"gpu_hours": hours}),
        tmp_path,
        StandIn(gamma_quality),
        silent,
    )
    assert report.runs["finished"] == 4 and report.complete
    assert any("is spent" in note for note in report.notes)


def test_choices_of_any_kind_can_be_searched(tmp_path):
    space = {
        "recipe.optimizer.betas": [[0.0, 0.99], [0.5, 0.9]],
        "recipe.r1.interval": {"low": 1, "high": 16, "whole": True},
    }
    conduct(study(search={"space": space, "trials": 6, "finalists": 0}), tmp_path, StandIn(gamma_quality), silent)
    trials = read_trials(tmp_path)
    assert {tuple(trial.values["recipe.optimizer.betas"]) for trial in trials} == {(0.0, 0.99), (0.5, 0.9)}
    assert all(isinstance(trial.values["recipe.r1.interval"], int) for trial in trials)


def test_what_another_process_runs_is_left_to_it(tmp_path):
    asked, train = study(ablate={"recipe.r1.gamma": [0, 10]}, seeds=1), StandIn(gamma_quality)
    folder = tmp_path / "runs/baseline"
    folder.mkdir(parents=True)
    with (folder / f".seed-{asked.seeds[0]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = conduct(asked, tmp_path, train, silent)
    assert {variant for variant, _ in train.trained} == {"gamma-0", "gamma-10"} and not report.complete
    assert conduct(asked, tmp_path, train, silent).complete
