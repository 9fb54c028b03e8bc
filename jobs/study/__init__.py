"""One question: a baseline, variants, seeds. From results of many runs to one comparison; runs a study here.

    study spec (jobs/spec/variants.py) -> runs -> results.py -> comparison.py -> study.json, CSV, study.html

`conduct.py` runs a study without a queue; `search.py` asks for the trials of a search.
"""

from jobs.study.comparison import compare_runs
from jobs.study.conduct import compare_here, conduct, load_here
from jobs.study.model import StudyReport
from jobs.study.write import write_comparison

__all__ = ["StudyReport", "compare_here", "compare_runs", "conduct", "load_here", "write_comparison"]
