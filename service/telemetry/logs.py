"""Log lines: JSON in a container, readable on a terminal, one canonical line an attempt, no secret ever.

`action` is a fixed word for machines, the keys beside it carry the values, `event` is the sentence for people.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

Log = FilteringBoundLogger


def configure(
    *,
    format: Literal["auto", "json", "console"] = "auto",
    level: str = "info",
    redact: Callable[[str], str],
    stream: TextIO | None = None,
) -> Log:
    """Sets up logging for this process and returns its logger. Lines go to standard error."""
    out = stream or sys.stderr
    console = format == "console" or (format == "auto" and out.isatty())
    renderer = (
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if console
        else structlog.processors.JSONRenderer(sort_keys=False, default=str)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
            structlog.processors.format_exc_info,
            _redactor(redact),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logger: Log = structlog.get_logger()
    return logger


def _redactor(redact: Callable[[str], str]) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    def clean(value: Any) -> Any:
        match value:
            case str():
                return redact(value)
            case dict():
                return {key: clean(item) for key, item in value.items()}
            case list() | tuple():
                return [clean(item) for item in value]
            case bool() | int() | float() | None:
                return value
            case _:
                return redact(str(value))

    def process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {key: clean(value) for key, value in event.items()}

    return process
