"""A study spec becomes runs that are each checked; what is wrong is refused where it stands."""

from pathlib import Path

import pytest
import yaml

from jobs.errors import SpecError
from jobs.spec import LoadedStudy, load, load_any
from jobs.spec.study import BETTER
from jobs.spec.variants import fingerprint, planned_images, planned_runs

TINY = yaml.safe_load((Path(__file__).parent / "specs/stylegan2.yaml").read_text())


def study(**section):
    return load_any(yaml.safe_dump({**TINY, "study": section}, sort_keys=False), "study.yaml")


def refusal(**section):
    with pytest.raises(SpecError) as refused:
        study(**section)
    return str(refused.value)


def test_every_kind_of_change_becomes_a_variant():
    loaded = study(
        ablate={"recipe.r1.gamma": [0, 10], "recipe.generator.architecture": "resnet"},
        grid={"recipe.r1.interval": [2, 8], "recipe.ema.ramp": [0.1, 0.2]},
        list={"small": {"recipe.generator.channels_base": 64, "training.batch": 8}},
    )
    assert isinstance(loaded, LoadedStudy)
    names = [variant.name for variant in loaded.variants]
    assert names == [
        "baseline", "gamma-0", "gamma-10", "architecture-resnet", "interval-2_ramp-0.1", "interval-2_ramp-0.2",
        "interval-8_ramp-0.1", "interval-8_ramp-0.2", "small",
    ]  # fmt: skip
    by_name = dict(zip(names, loaded.variants, strict=True))
    assert by_name["gamma-10"].loaded.job.recipe.r1.gamma == 10
    assert by_name["interval-8_ramp-0.1"].loaded.job.recipe.r1.interval == 8
    assert by_name["architecture-resnet"].loaded.job.recipe.generator.architecture == "resnet"
    assert by_name["baseline"].loaded.job == load(yaml.safe_dump(TINY), "").job


def test_what_changes_along_is_told():
    loaded = study(list={"batch": {"training.batch": 32}})
    differences = loaded.variants[1].differences(loaded.baseline)
    assert differences["training.batch"] == (16, 32)
    assert "recipe.ema.half_life_images" in differences  # half life is a formula of the batch
    assert "name" not in differences and "seed" not in differences


def test_runs_are_paired_over_seeds_and_any_beginning_of_them_is():
    loaded = study(ablate={"recipe.r1.gamma": 0}, seeds=[5, 7])
    assert [(run.variant, run.seed) for run in loaded.runs] == [
        ("baseline", 5), ("gamma-0", 5), ("baseline", 7), ("gamma-0", 7),
    ]  # fmt: skip
    for run in loaded.runs:
        assert run.loaded.job.seed == run.seed
        assert run.loaded.job.name == f"{loaded.name}.{run.variant}.s{run.seed}"
        again = load(yaml.safe_dump(run.loaded.job.model_dump(mode="json")), "").job
        assert again == run.loaded.job and fingerprint(again) == run.fingerprint


def test_a_fingerprint_is_that_of_what_is_computed():
    loaded = study(
        list={"same": {"recipe.r1.gamma": 1.0}, "longer": {"training.images": 512}}, seeds=2, budget={"images": 10_000}
    )
    by_name = {(run.variant, run.seed): run.fingerprint for run in loaded.runs}
    seeds = loaded.seeds
    assert by_name["same", seeds[0]] == by_name["baseline", seeds[0]]
    assert len(set(by_name.values())) == 4
    assert planned_runs(loaded) == 4
    assert planned_images(loaded) == 2 * (256 + 512)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"ablate": {"recipe.r1.gama": 1}}, "study.ablate.recipe.r1.gama: unknown key; allowed here: gamma, interval"),
        ({"ablate": {"recipe.r1.gama": 1}}, "did you mean: gamma?"),
        (
            {"grid": {"recipe.generator.architecture": ["skip", "of"]}},
            "study.grid.recipe.generator.architecture[1]: must be one of",
        ),
        ({"list": {"a": {"training.batch": -1}}}, "study.list.a.training.batch: input should be greater than"),
        ({"list": {"a": {"training.micro_batch": 7}}}, "study.list.a.training.micro_batch: 7 does not divide"),
        ({"list": {"a": {"seed": 3}}}, "cannot be changed by a variant: study.seeds"),
        ({"list": {"a": {"evaluation.samples": 64}}}, "variants that are measured differently"),
        ({"list": {"a": {"training.images.x": 1}}}, "training.images is 256, which holds no x"),
        ({"list": {"a": {"training.grid[2]": 1}}}, "training.grid has 2 items, none of them 2"),
        ({"list": {"a": {"a..b": 1}}}, "not a dotted path"),
        ({"list": {"baseline": {}}}, "baseline is the job as it is written"),
        ({"list": {"gamma-0": {}}, "ablate": {"recipe.r1.gamma": 0}}, "two variants are named gamma-0"),
        ({}, "nothing is changed"),
        ({"ablate": {"recipe.r1.gamma": 0}, "sedes": 3}, "did you mean: seeds?"),
        ({"ablate": {"recipe.r1.gamma": 0}, "seeds": [1, 1]}, "listed more than once"),
        ({"ablate": {"recipe.r1.gamma": 0}, "primary": {"metric": "fd", "features": "vgg16"}}, "is not measured"),
        ({"ablate": {"recipe.r1.gamma": 0}, "primary": {"metric": "odd"}}, "write better: lower or higher"),
        ({"ablate": {"recipe.r1.gamma": 0}, "budget": {"images": 100}}, "the budget is 100"),
        ({"search": {"space": {"recipe.r1.gamma": {"low": -1, "high": 1}}, "trials": 2}}, "gamma.low: input should be"),
        ({"search": {"space": {"recipe.r1.gamma": {"low": 0, "high": 1, "log": True}}, "trials": 2}}, "above 0"),
        ({"search": {"space": {"recipe.r1.gamma": {"low": 1, "high": 2}}, "trials": 2, "prune": "median"}}, "every_im"),
        ({"search": {"space": {"recipe.r1.gamma": [1]}, "trials": 2}, "seeds": [1]}, "finalists need other seeds"),
        ({"grid": {"recipe.r1.gamma": list(range(50)), "recipe.r1.interval": list(range(1, 50))}}, "at most 1,000"),
    ],
)
def test_a_wrong_study_is_refused_with_its_place(section, said):
    assert said in refusal(**section)


def test_a_mistake_has_its_line():
    text = yaml.safe_dump(TINY) + "study:\n  ablate:\n    recipe.r1.gamma: 1\n    recipe.r1.gama: 1\n"
    with pytest.raises(SpecError, match=rf"study.yaml:{len(text.splitlines())}:5: study.ablate.recipe.r1.gama"):
        load_any(text, "study.yaml")


def test_a_mistake_of_the_job_is_told_once():
    with pytest.raises(SpecError) as refused:
        load_any(yaml.safe_dump({**TINY, "training": {}, "study": {"ablate": {"recipe.r1.gamma": [1, 2]}}}), "s")
    assert str(refused.value).count("required") == 1


def test_a_study_is_no_job():
    with pytest.raises(SpecError, match="is a study"):
        load(yaml.safe_dump({**TINY, "study": {"ablate": {"recipe.r1.gamma": 0}}}), "s.yaml")


def test_whether_less_is_more_is_the_same_here_and_in_reports():
    from jobs.report.metrics import MEANINGS

    assert {metric: MEANINGS[metric].better for metric in BETTER if metric in MEANINGS} == {
        metric: better for metric, better in BETTER.items() if metric in MEANINGS
    }
