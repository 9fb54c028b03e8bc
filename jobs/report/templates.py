"""Pages from templates: everything that a spec or a run said is escaped, and a name that is not there is an error."""

import time
from collections.abc import Callable
from pathlib import Path

import jinja2

from jobs.report import words


def environment(folder: Path, **filters: Callable[..., object]) -> jinja2.Environment:
    """The templates of `folder`, with the words that all pages share and the filters that these need."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = {
        "figure": words.figure, "count": words.count, "duration": words.duration, "plural": words.plural,
        "title": words.title, "when": when,
    }  # fmt: skip
    made.filters.update(shared | filters)
    return made


def when(seconds: float | None) -> str:
    """Unix seconds as UTC, to the minute."""
    return words.NO_VALUE if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
