"""Everything a submitter may write, typed. Imports neither torch nor numpy: a wrong spec is refused in under a second.

`load(text, source)` gives a resolved job or one SpecError that lists every mistake with its line and column;
`load_any` a study too: a job and what is changed in it.
"""

from jobs.spec.fill import Derived
from jobs.spec.job import Job
from jobs.spec.load import Loaded, load, load_file
from jobs.spec.resolve import outlook, warnings
from jobs.spec.variants import LoadedStudy, load_any, load_any_file

__all__ = [
    "Derived",
    "Job",
    "Loaded",
    "LoadedStudy",
    "load",
    "load_any",
    "load_any_file",
    "load_file",
    "outlook",
    "warnings",
]
