"""The tiny specs, one a recipe, and how a test runs them."""

from pathlib import Path

import yaml

from jobs.data import Roots
from jobs.run import Surroundings, run
from jobs.spec import Loaded, load

TINY = Path("tests/specs/stylegan2.yaml")
EVERY = sorted(Path("tests/specs").glob("*.yaml"))


def loaded(path: Path = TINY, **changes) -> Loaded:
    """The spec at `path` with dotted keys changed: `loaded(**{"training.images": 64})`."""
    spec = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = spec
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return load(yaml.safe_dump(spec), str(path))


def run_tiny(job: Loaded, out: Path, cache: Path, **options) -> Path:
    """Runs `job` in `out`; decoded data and features are shared in `cache`."""
    return run(job, Surroundings(out=out, cache_dir=cache, roots=Roots(Path("tests/specs")), **options))
