"""What a running job says, read as it says it."""

from collections.abc import Iterator
from pathlib import Path

from jobs.events import Event, parse_lines


class EventTail:
    """New events of a growing events.jsonl. The file may not be there yet; half a line waits for its other half."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> Iterator[Event]:
        """The events since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return iter(())
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        return parse_lines([line.decode("utf-8", errors="replace") for line in lines])
