"""What is computed once a machine: files named by what they depend on, written aside and renamed."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jobs.files import replacing

logger = logging.getLogger(__name__)


def cached(directory: Path, name: str, depends_on: tuple[object, ...], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array stored under `name` and everything it depends on, or `compute()`, then stored."""
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:32]
    path = directory / f"{name}-{key}.npy"
    stored = _read(path)
    if stored is not None:
        return stored
    array = compute()
    keep(path, lambda aside: _save(array, aside))
    return array


def keep(path: Path, write: Callable[[Path], None]) -> None:
    """Has `write` make the file beside its place and renames it: nobody ever reads half of one.

    A cache that cannot be written costs time, not the run: the failure is logged.
    """
    try:
        with replacing(path) as aside:
            write(aside)
    except OSError as error:
        logger.warning("%s was not cached: %s", path.name, error)


def _save(array: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _read(path: Path) -> np.ndarray | None:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or torn by a full disk: compute again
        return None
