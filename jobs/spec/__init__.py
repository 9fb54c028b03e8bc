"""Everything a submitter may write, typed. Imports neither torch nor numpy: a wrong spec is refused in under a second.

`load(text, source)` gives a resolved job or one SpecError that lists every mistake with its line and column.
"""

from jobs.spec.job import Job
from jobs.spec.load import Loaded, load, load_file
from jobs.spec.resolve import Derived, warnings

__all__ = ["Derived", "Job", "Loaded", "load", "load_file", "warnings"]
