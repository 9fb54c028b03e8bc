"""Which files a spec may name. A submitted spec comes from a stranger: it must not read the worker's own files."""

from dataclasses import dataclass
from pathlib import Path

from jobs.errors import DataError, SpecError
from jobs.spec.data import REMOTE_PREFIX, SHIPPED_PREFIX

_SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Roots:
    """Where the paths of a spec begin and where they may lead."""

    relative_to: Path
    """Base of relative paths: the directory of the spec."""
    allowed: tuple[Path, ...] | None = None
    """Directories that data may be read from, after symbolic links; None: anywhere (a person runs their own spec)."""

    def locate(self, path: str, field: str) -> Path:
        """The existing file or directory that `path` means, links resolved.

        Raises SpecError where it leads out of the allowed directories (existing or not, so that nobody learns which
        files there are), DataError where nothing is there.
        """
        if path.startswith(SHIPPED_PREFIX):
            return _SHIPPED / f"{path.removeprefix(SHIPPED_PREFIX)}.zip"
        try:
            real = (self.relative_to / _local(path)).resolve()
            self.check(real, f"{field}: {path!r}")
            exists = real.exists()
        except (OSError, RuntimeError) as error:  # a loop of links, a name too long, no permission
            raise DataError(f"{field}: {path!r} cannot be opened: {_reason(error)}") from None
        if not exists:
            raise DataError(
                f"{field}: there is nothing at {path!r}",
                hint=self._hint(path),
            )
        return real

    def _hint(self, path: str) -> str | None:
        if path.startswith(REMOTE_PREFIX):
            return "only a worker fetches addresses: submit the spec, or copy the data and give its path"
        return None if Path(path).is_absolute() else f"relative paths begin at {str(self.relative_to)!r}"

    def check(self, real: Path, what: str) -> None:
        """SpecError unless `real`, a path with its links resolved, lies in an allowed directory."""
        if self.allowed is None or any(real.is_relative_to(root.resolve()) for root in self.allowed):
            return
        raise SpecError(
            f"{what} leads outside the directories that this worker reads data from",
            hint="allowed are: " + (", ".join(str(root) for root in self.allowed) or "none, only shipped sets"),
        )


def _local(path: str) -> str:
    """Where a worker puts what it fetched: s3://bucket/key is at s3/bucket/key."""
    return "s3/" + path.removeprefix(REMOTE_PREFIX) if path.startswith(REMOTE_PREFIX) else path


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "a loop of symbolic links"
