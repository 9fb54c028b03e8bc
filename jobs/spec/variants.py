"""A study spec to the runs it stands for, each checked like a spec of its own; no torch, no run is started here.

Every change is a dotted path into the job (`recipe.r1.gamma`, `recipe.layers[2].width`) and a value. A path that leads
nowhere or a value that is not allowed is refused where it stands in the study.
"""

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from jobs.errors import SpecError
from jobs.spec import yaml_tree
from jobs.spec.evaluation import MetricName
from jobs.spec.job import NAME_PATTERN, Job
from jobs.spec.load import STUDY, Loaded, Problem, Refused, interpret, load, read_spec, spec_error, validate
from jobs.spec.study import BASELINE, BETTER, MOST_RUNS, Better, Primary, Range, Search, Study, StudySpec

LONGEST_NAME = 40
FIXED: Mapping[str, str] = {
    "name": "variants are named by the study",
    "question": "the study asks one question",
    "seed": "study.seeds gives every variant the same seeds",
    "evaluation": "variants that are measured differently cannot be compared",
    "queue": "it changes nothing that a run computes",
    STUDY: "a study holds no other study",
}
"""What no variant may change, and why."""


@dataclass(frozen=True)
class Change:
    """One value of a variant, and where the study says so."""

    path: str
    value: Any
    written_at: yaml_tree.Path


@dataclass(frozen=True)
class Variant:
    """The job with some values changed; the baseline is the one without any change."""

    name: str
    changes: Mapping[str, Any]
    loaded: Loaded
    """With the job's own name and seed."""

    def differences(self, baseline: "Variant") -> dict[str, tuple[Any, Any]]:
        """Dotted path -> (baseline's value, this one's), over resolved values: also what changed along."""
        mine, theirs = flat(_decisive(self.loaded.job)), flat(_decisive(baseline.loaded.job))
        paths = sorted(path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path))
        return {path: (theirs.get(path), mine.get(path)) for path in paths}


@dataclass(frozen=True)
class StudyRun:
    """One run: a variant with a seed."""

    variant: str
    seed: int
    loaded: Loaded
    fingerprint: str
    """The same for every run that computes the same, whatever its name."""


@dataclass(frozen=True)
class Criterion:
    """The primary metric with everything filled in."""

    metric: str
    features: str | None
    better: Better


@dataclass(frozen=True)
class LoadedStudy:
    """A study that can be run. `variants` begins with the baseline; the trials of a search come while it runs."""

    written: StudySpec
    variants: tuple[Variant, ...]
    primary: Criterion
    base: Mapping[str, Any]
    """The job as it was written, without the study."""

    @property
    def name(self) -> str:
        return self.written.name

    @property
    def study(self) -> Study:
        return self.written.study

    @property
    def question(self) -> str | None:
        return self.study.question or self.written.question

    @property
    def baseline(self) -> Variant:
        return self.variants[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of every variant; in a search, of the finalists and the baseline they are compared with."""
        if isinstance(self.study.seeds, tuple):
            return self.study.seeds
        first = self.written.seed + (1 if self.study.search else 0)
        return tuple(range(first, first + self.study.seeds))

    @cached_property
    def runs(self) -> tuple[StudyRun, ...]:
        """All runs that are known beforehand, one seed of every variant after another: any beginning is paired."""
        return tuple(self.run(variant, seed) for seed in self.seeds for variant in self.variants)

    @cached_property
    def places(self) -> Mapping[tuple[str, int], int]:
        """(variant, seed) -> its place among the runs."""
        return {(run.variant, run.seed): place for place, run in enumerate(self.runs)}

    @cached_property
    def first_of(self) -> Mapping[str, StudyRun]:
        """Fingerprint -> the first run that has it: equal runs are run once."""
        return {run.fingerprint: run for run in reversed(self.runs)}

    def run(self, variant: Variant, seed: int) -> StudyRun:
        """`variant` with `seed`, under a name of its own."""
        update = {"seed": seed, "name": f"{self.name}.{variant.name}.s{seed}"}
        job = variant.loaded.job.model_copy(update=update)
        written = variant.loaded.written.model_copy(update=update)
        return StudyRun(variant.name, seed, Loaded(written, job, variant.loaded.derived), fingerprint(job))

    def trial(self, number: int, values: Mapping[str, Any]) -> Variant:
        """A trial of the search. Raises SpecError where its values do not go together."""
        changes = [Change(path, value, (STUDY, "search", "space", path)) for path, value in values.items()]
        try:
            return _variant(trial_name(number), changes, self.base)
        except Refused as refused:
            reasons = "; ".join(problem.message for problem in refused.problems)
            raise SpecError(f"trial {number} ({shown(values)}): {reasons}") from None


def trial_name(number: int) -> str:
    """The variant name of a trial, counted from 1."""
    return f"trial-{number:03d}"


def load_any_file(path: Path) -> Loaded | LoadedStudy:
    """The job or the study in a file. Raises SpecError with every mistake in it."""
    return load_any(read_spec(path), str(path))


def load_any(text: str | bytes, source: str) -> Loaded | LoadedStudy:
    """The job or the study in `text`; `source` names it in messages. Raises SpecError with every mistake in it."""
    tree = yaml_tree.parse(text, source)
    if STUDY not in tree.value:
        return load(text, source)
    try:
        return _study(tree.value)
    except Refused as refused:
        raise spec_error(refused.problems, source, tree) from None


def fingerprint(job: Job) -> str:
    """sha256 over all of a resolved job that its result depends on."""
    text = json.dumps(_decisive(job) | {"seed": job.seed}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings by their dotted paths; lists stay whole."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves |= flat(inner, f"{path}.{key}".lstrip("."))
    return leaves


def shown(changes: Mapping[str, Any]) -> str:
    """`recipe.r1.gamma = 0.1, recipe.generator.noise = off`"""
    return ", ".join(f"{path} = {_plain(value)}" for path, value in changes.items()) or "as written"


def _decisive(job: Job) -> dict[str, Any]:
    return job.model_dump(mode="json", exclude={"name", "question", "queue", "seed"})


def _study(value: Mapping[str, Any]) -> LoadedStudy:
    """Raises Refused, first for the job and the section, then for all variants together."""
    written = validate(StudySpec, value)
    base = {key: inner for key, inner in value.items() if key != STUDY}
    interpret(base)  # what is wrong with the job is told once, and not again for every variant
    variants, problems = [_variant(BASELINE, [], base)], list(_problems_of_space(written.study, base))
    for name, changes in _planned(written.study):
        try:
            variants.append(_variant(name, changes, base))
        except Refused as refused:
            problems += refused.problems
    primary, reason = _criterion(written, variants[0].loaded.job)
    study = LoadedStudy(written, tuple(variants), primary, base)
    problems += [*reason, *_problems_of_names(study), *_problems_of_cost(study)]
    if problems:
        raise Refused(list(dict.fromkeys(problems)))
    return study


def _planned(study: Study) -> Iterator[tuple[str, list[Change]]]:
    """The name and the changes of every variant but the baseline and the trials."""
    plans = [*_ablations(study), *_cells(study)]
    for (name, changes), unique in zip(plans, _unique([name for name, _ in plans]), strict=True):
        yield unique or name, changes
    for name, values in study.list.items():
        yield name, [Change(path, value, (STUDY, "list", name, path)) for path, value in values.items()]


def _ablations(study: Study) -> Iterator[tuple[str, list[Change]]]:
    for path, given in study.ablate.items():
        at: yaml_tree.Path = (STUDY, "ablate", path)
        values = list(enumerate(given)) if isinstance(given, list) else [(None, given)]
        for index, value in values:
            written_at = at if index is None else (*at, index)
            yield _auto_name({path: value}), [Change(path, value, written_at)]


def _cells(study: Study) -> Iterator[tuple[str, list[Change]]]:
    axes = [
        [Change(path, value, (STUDY, "grid", path, index)) for index, value in enumerate(values)]
        for path, values in study.grid.items()
    ]
    for cell in itertools.islice(itertools.product(*axes), MOST_RUNS + 1) if axes else ():
        yield _auto_name({change.path: change.value for change in cell}), list(cell)


def _auto_name(changes: Mapping[str, Any]) -> str:
    """`gamma-0.1_noise-off`, shortened where it must be."""
    parts = [f"{path.rpartition('.')[2]}-{_plain(value)}" for path, value in changes.items()]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)).strip("._-")
    return name[:LONGEST_NAME].strip("._-") or "variant"


def _unique(names: list[str]) -> Iterator[str]:
    """The names, those that occur more than once counted."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if names.count(name) == 1 else f"{name[: LONGEST_NAME - 5].strip('._-')}-{seen[name]}"


def _variant(name: str, changes: list[Change], base: Mapping[str, Any]) -> Variant:
    """Raises Refused, with the places in the study."""
    value: Any = copy.deepcopy(base)
    problems = []
    for change in changes:
        if reason := _refusal(change.path) or _set(value, change.path, change.value):
            problems.append(Problem(change.written_at, reason, suggestion=None))
    if problems:
        raise Refused(problems)
    try:
        return Variant(name, {change.path: change.value for change in changes}, interpret(value))
    except Refused as refused:
        raise Refused([_moved(problem, name, changes) for problem in refused.problems]) from None


def _refusal(path: str) -> str | None:
    if not _steps(path):
        return "not a dotted path such as recipe.r1.gamma"
    reason = FIXED.get(str(_steps(path)[0]))
    return reason and f"cannot be changed by a variant: {reason}"


def _moved(problem: Problem, name: str, changes: list[Change]) -> Problem:
    """A mistake in a variant, at the change that caused it; the first one where several did together."""
    causes = [change for change in changes if problem.path[: len(_steps(change.path))] == tuple(_steps(change.path))]
    cause = (causes or changes)[0]
    path = tuple(_steps(cause.path))
    inner = problem.path[len(path) :] if causes else ()
    message = problem.message if causes else f"{_dotted(problem.path)}: {problem.message} (variant {name})"
    return Problem((*cause.written_at, *inner), message, problem.given, problem.suggestion)


def _dotted(path: yaml_tree.Path) -> str:
    return ".".join(str(part) for part in path)


def _steps(path: str) -> list[str | int]:
    """`recipe.layers[2].width` -> recipe, layers, 2, width; nothing where it is no such path."""
    if not re.fullmatch(r"[^.\[\]\s]+(\[\d+\])*(\.[^.\[\]\s]+(\[\d+\])*)*", path):
        return []
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", path)
    return [int(index) if index else key for index, key in parts]


def _set(value: Any, path: str, new: Any) -> str | None:
    """Writes `new` at `path`; what is wrong with the path, where something is. Sections on the way are made."""
    steps = _steps(path)
    for place, (step, following) in enumerate(itertools.pairwise(steps)):
        match value, step:
            case dict(), str():
                if value.get(step) is None:
                    value[step] = {}
                value = value[step]
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                return f"{_dotted(tuple(steps[:place])) or 'the spec'} holds no {step}"
        if not isinstance(value, list if isinstance(following, int) else dict):
            return f"{_dotted(tuple(steps[: place + 1]))} is {value!r}, which holds no {following}"
    last = steps[-1]
    if isinstance(value, list) and (not isinstance(last, int) or last >= len(value)):
        return f"{_dotted(tuple(steps[:-1]))} has {len(value)} items, none of them {last}"
    value[last] = copy.deepcopy(new)
    return None


def _problems_of_space(study: Study, base: Mapping[str, Any]) -> Iterator[Problem]:
    """Both ends of every range and every choice of a search, each alone."""
    for path, values in study.search.space.items() if study.search else ():
        at: yaml_tree.Path = (STUDY, "search", "space", path)
        for value, written_at in _ends(values, at):
            try:
                _variant("trial", [Change(path, value, written_at)], base)
            except Refused as refused:
                yield from refused.problems


def _ends(values: Range | tuple[Any, ...], at: yaml_tree.Path) -> list[tuple[Any, yaml_tree.Path]]:
    if isinstance(values, tuple):
        return [(value, (*at, index)) for index, value in enumerate(values)]
    kind = int if values.whole else float
    return [(kind(values.low), (*at, "low")), (kind(values.high), (*at, "high"))]


def _criterion(written: StudySpec, job: Job) -> tuple[Criterion, list[Problem]]:
    """The primary metric, and what is wrong with it."""
    asked: Primary = written.study.primary
    evaluation = job.evaluation
    metric = asked.metric or evaluation.metrics[0]
    measured = metric in evaluation.metrics
    features = asked.features or (evaluation.features[-1] if measured else None)
    at = (STUDY, "primary")
    problems = []
    if asked.better is None and metric not in BETTER:
        message = f"of {metric} it is not known which way is better: write better: lower or higher"
        problems.append(Problem((*at, "better"), message))
    if metric in get_args(MetricName) and not measured:
        message = f"{metric} is not measured: evaluation.metrics has {', '.join(evaluation.metrics)}"
        problems.append(Problem((*at, "metric"), message))
    if measured and features not in evaluation.features:
        message = f"{features} is not measured: evaluation.features has {', '.join(evaluation.features)}"
        problems.append(Problem((*at, "features"), message))
    return Criterion(metric, features, asked.better or BETTER.get(metric, "lower")), problems


def _problems_of_names(study: LoadedStudy) -> Iterator[Problem]:
    names = [variant.name for variant in study.variants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield Problem((STUDY,), f"two variants are named {', '.join(twice)}; give one of them a name under list")
    longest = max([*names, trial_name(1)], key=len)
    full = f"{study.name}.{longest}.s{max(study.seeds)}"
    if not re.fullmatch(NAME_PATTERN, full):
        yield Problem(("name",), f"with variant and seed it becomes {full}: more than 63 letters; shorten it")


def _problems_of_cost(study: LoadedStudy) -> Iterator[Problem]:
    count = len(study.variants) * len(study.seeds)
    if count > MOST_RUNS:  # before anything is made of them
        yield Problem((STUDY,), f"would be {count:,} runs or more; a study has at most {MOST_RUNS:,}")
        return
    images = planned_images(study)
    budget = study.study.budget.images
    if budget is not None and images > budget and study.study.search is None:
        yield Problem(
            (STUDY, "budget", "images"), f"the runs need {images:,} images together, the budget is {budget:,}"
        )
    yield from _problems_of_search(study)


def _problems_of_search(study: LoadedStudy) -> Iterator[Problem]:
    search: Search | None = study.study.search
    if search is None:
        return
    if search.prune != "none" and study.baseline.loaded.job.evaluation.every_images is None:
        yield Problem((STUDY, "search", "prune"), "needs evaluations on the way: write evaluation.every_images")
    if study.written.seed in study.seeds:
        yield Problem(
            (STUDY, "seeds"),
            f"trials run with seed {study.written.seed} (the job's); finalists need other seeds, because the best of "
            "many trials is partly luck",
        )


def planned_runs(study: LoadedStudy) -> int:
    """How many runs at most; equal ones counted once, where they are known beforehand."""
    known = {run.fingerprint for run in study.runs}
    search = study.study.search
    return len(known) + (1 + search.trials + search.finalists * len(study.seeds) if search else 0)


def planned_images(study: LoadedStudy) -> int:
    """Real images shown over all runs, at most."""
    known = {run.fingerprint: run.loaded.job.training.images for run in study.runs}
    each = study.baseline.loaded.job.training.images
    return sum(known.values()) + (planned_runs(study) - len(known)) * each


def _plain(value: Any) -> str:
    """A value as it would be written in a spec."""
    match value:
        case bool() | None:
            return json.dumps(value)
        case float():
            return f"{value:.6g}"
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
