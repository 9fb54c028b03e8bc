"""Every environment variable of the service, typed, with its unit. The only module that reads the environment.

`GANKILN_STORE=s3://bucket/prefix GANKILN_TTL_SECONDS=120 gankiln worker`. The standard AWS variables are read by the
S3 client itself. A variable that starts with GANKILN_ and is not known is refused: a misspelt one would otherwise take
its default in silence.
"""

import difflib
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.errors import SpecError
from service.queue.model import Budgets, QueueSettings

PREFIX = "GANKILN_"
SECRET_NAME = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE_KEY)", re.IGNORECASE)
KUBERNETES_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_\w+)?)$")

Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[ByteSize, Field(gt=0)]


def _default_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gankiln"


class SettingsError(SpecError):
    """A setting of the service cannot be used as it is."""


class Settings(BaseSettings):
    """What an operator may set. Durations are in seconds, sizes in bytes or written as 20GB, 512MiB."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    store: str = Field("", description="Directory, or s3://bucket/prefix; the option --store stands above it")
    worker: str = Field("", description="Name of this worker in logs and claims; default: the name of the host")
    node: str = Field("", description="Name of the machine, to avoid it after a device error; default: of the host")
    home: Path = Field(
        default_factory=_default_home, description="Local directory for running jobs, the cache and the spool"
    )

    heartbeat_seconds: Seconds = Field(15.0, description="Between two heartbeats of a running job")
    ttl_seconds: Seconds = Field(90.0, description="A heartbeat seen unchanged this long means a lost worker")
    poll_seconds: Seconds | None = Field(
        None, description="Mean time between two looks at the queue; default: 30 on a bucket, 2 in a directory"
    )
    grace_seconds: Seconds = Field(
        120.0, description="For a last checkpoint after a stop was asked, then the job is killed"
    )
    drain_seconds: Seconds = Field(
        25.0, description="The same when the worker itself is asked to stop; below what the platform allows"
    )
    preemption: Literal["off", "aws", "gcp", "azure"] = Field(
        "off", description="Ask the metadata service of this cloud whether the (spot) machine is about to be taken away"
    )
    evaluation_seconds: Seconds = Field(3600.0, description="Without any event while a job evaluates, then a retry")
    orphan_seconds: Seconds = Field(
        1800.0, description="A job trains this long without reaching the store, then it is stopped and waits"
    )

    max_failures: int = Field(3, ge=1, description="Attempts that may fail before a job is dead")
    max_interruptions: int = Field(50, ge=1, description="Attempts that may be interrupted (drain, pre-emption)")
    max_lost: int = Field(5, ge=1, description="Attempts whose worker may vanish")
    backoff_seconds: Seconds = Field(30.0, description="Upper bound of the first wait before a retry, then doubled")
    backoff_max_seconds: Seconds = Field(1800.0, description="Upper bound of every wait before a retry")
    avoid_node_seconds: float = Field(
        900.0, ge=0, description="How long a job waits for another machine than the one whose device failed it"
    )
    retain_attempts_days: float = Field(30.0, gt=0, description="Checkpoints and logs of a finished job are kept")
    retain_jobs_days: float = Field(365.0, gt=0, description="The record of a finished job is kept; results stay")

    quarantine_failures: int = Field(
        3, ge=1, description="Jobs that fail fast one after another, then this worker stops claiming"
    )
    quarantine_fast_seconds: Seconds = Field(60.0, description="An attempt that fails within this is a fast failure")
    quarantine_seconds: Seconds = Field(900.0, description="How long a quarantined worker stays away from the queue")

    spec_bytes: Bytes = Field(ByteSize(256 << 10), description="Largest spec that is read")
    log_bytes: Bytes = Field(ByteSize(64 << 20), description="Largest output kept of one attempt")
    log_seconds: Seconds = Field(30.0, description="Between two uploads of the job's output and samples")
    cache_bytes: Bytes = Field(ByteSize(100 << 30), description="Fetched inputs kept on the local disk")
    stream_bytes: Bytes = Field(
        ByteSize(20 << 30), description="Shards of a bucket that a job keeps on the local disk while it trains"
    )
    spool_bytes: Bytes = Field(ByteSize(20 << 30), description="Files that wait on the local disk to be uploaded")
    free_bytes: Bytes = Field(
        ByteSize(1 << 30), description="Free space on the local disk below which nothing is fetched"
    )
    data_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description=f"Local directories that a queued spec may read, separated by '{os.pathsep}'"
    )

    weights: Path | None = Field(
        None, description="Directory of evaluation weights that no package carries; each file is checked by its sha256"
    )

    metrics_host: str = Field("0.0.0.0", description="Address of /metrics, /healthz and /readyz")  # noqa: S104
    metrics_port: int = Field(9464, ge=0, le=65535, description="Port of /metrics, /healthz and /readyz; 0 = none")
    scan_seconds: Seconds = Field(30.0, description="Between two scans of the queue by the exporter")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is printed")

    @field_validator("data_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    def queue_settings(self, *, polls_are_free: bool) -> QueueSettings:
        """The intervals of the protocol; on a directory nobody pays for a request."""
        return QueueSettings(
            ttl_seconds=self.ttl_seconds,
            suspect_seconds=self.ttl_seconds / 2,
            heartbeat_seconds=self.heartbeat_seconds,
            poll_seconds=self.poll_seconds or (2.0 if polls_are_free else 30.0),
            backoff_base_seconds=self.backoff_seconds,
            backoff_cap_seconds=self.backoff_max_seconds,
            avoid_node_seconds=self.avoid_node_seconds,
            spec_bytes=self.spec_bytes,
            retain_attempts_days=self.retain_attempts_days,
            retain_jobs_days=self.retain_jobs_days,
        )

    @property
    def budgets(self) -> Budgets:
        """How often a job may end without an end."""
        return Budgets(max_failures=self.max_failures, max_interruptions=self.max_interruptions, max_lost=self.max_lost)

    @property
    def cache_dir(self) -> Path:
        """Decoded data and features."""
        return self.home / "cache"

    @property
    def inputs_dir(self) -> Path:
        """What was fetched for jobs; bounded by cache_bytes."""
        return self.home / "inputs"

    @property
    def runs_dir(self) -> Path:
        return self.home / "runs"

    @property
    def worker_name(self) -> str:
        return self.worker or socket.gethostname()

    @property
    def node_name(self) -> str:
        return self.node or socket.gethostname()


def load(**overrides: Any) -> Settings:
    """The settings of this process: options of the command line above the environment above the defaults.

    Raises:
        SettingsError: a variable is unknown or its value is not allowed; every error at once.
    """
    errors = [_unknown(name) for name in unknown_variables(os.environ)]
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        errors += [_describe(detail["loc"], detail["msg"], detail.get("input")) for detail in error.errors()]
    if errors:
        raise SettingsError("\n".join(errors), hint="`gankiln doctor --settings` lists every variable")
    return settings


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Names that start with GANKILN_ and mean nothing; those that Kubernetes adds for its services are passed over."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(
        name
        for name in environment
        if name.startswith(PREFIX) and name not in known and not KUBERNETES_LINK.search(name)
    )


def child_environment() -> dict[str, str]:
    """The environment of a job: without credentials and without the service's own settings, which it does not need."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", PREFIX)) and not SECRET_NAME.search(name)
    }
    code = str(Path(__file__).parents[1])
    path = os.pathsep.join([code, *filter(None, [kept.get("PYTHONPATH")])])
    # PYTHONSAFEPATH: a file in the folder of the attempt must never be imported in place of a module.
    return kept | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def secret_values() -> tuple[str, ...]:
    """Values in the environment that must never be printed."""
    return tuple(
        value
        for name, value in os.environ.items()
        if SECRET_NAME.search(name) and not name.endswith(("_FILE", "_PATH", "_DIR")) and len(value) >= 8
    )


def reference_markdown() -> str:
    """Every setting as a Markdown table: variable, type, default, meaning."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{PREFIX}{name.upper()}` | {_default_text(name)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _default_text(name: str) -> str:
    if name == "home":
        return "`~/.cache/gankiln`"
    match Settings.model_fields[name].default:
        case ByteSize() as size:
            return f"`{size.human_readable(separator='')}`"
        case float() as seconds:
            return f"`{seconds:g}`"
        case "" | ():
            return ""
        case value:
            return f"`{value}`"


def _unknown(name: str) -> str:
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    close = difflib.get_close_matches(name, known, n=1)
    return f"{name}: no such setting" + (f"; did you mean {close[0]}?" if close else "")


def _describe(location: tuple[int | str, ...], message: str, value: object) -> str:
    name = PREFIX + str(location[0]).upper() if location else PREFIX
    shown = "a secret" if SECRET_NAME.search(name) else repr(value)
    link = isinstance(value, str) and value.startswith("tcp://")
    cause = " (set by Kubernetes for a service of that name: set enableServiceLinks: false)" if link else ""
    return f"{name}: {message}; got {shown}{cause}"
