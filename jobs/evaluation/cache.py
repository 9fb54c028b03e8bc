"""Features of the data, computed once: plain .npy files, named by what they depend on, written aside and renamed."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)


def cached(directory: Path, name: str, depends_on: tuple[object, ...], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array stored under `name` and everything it depends on, or `compute()`, then stored.

    A cache that cannot be written costs time, not the run: the failure is logged and the computed array returned.
    """
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:32]
    path = directory / f"{name}-{key}.npy"
    stored = _read(path)
    if stored is not None:
        return stored
    array = compute()
    try:
        _write(path, array)
    except OSError as error:
        logger.warning("features of the data were not cached: %s", error)
    return array


def _read(path: Path) -> np.ndarray | None:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or torn by a full disk: compute again
        return None


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
