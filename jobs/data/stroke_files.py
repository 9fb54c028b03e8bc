"""Strokes in JSON, as DoodlerGAN's data and Quick, Draw! have them, to drawings. The files come from strangers."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jobs.data.content import NamedFile
from jobs.data.dataset import Skipped
from jobs.data.load import MAX_SKIPPED_SHARE
from jobs.data.roots import Roots
from jobs.data.source import MAX_FILE_BYTES, printable, spread
from jobs.data.strokes import CANVAS, F64, Drawing
from jobs.errors import DataError
from jobs.spec.sketch_data import DoodlerStrokes, QuickDraw

MAX_POINTS = 100_000
"""Of one drawing; people draw a few hundred."""
_FARTHEST = 1e6

Read = Callable[[Any], Drawing | None]
"""What one JSON value holds: a drawing, or None where it is to be left out. Raises ValueError, KeyError, TypeError."""
Found = tuple[tuple[Drawing, ...], tuple[Skipped, ...]]


def stroke_files(section: DoodlerStrokes | QuickDraw, roots: Roots) -> list[NamedFile]:
    """The file of `section`, or the .json files of its directory in the order of names."""
    path = roots.locate(section.path, "data.path")
    if path.is_file():
        return [(path.name, path)]
    if isinstance(section, QuickDraw):
        raise DataError(f"data.path: {section.path!r} is not a file", hint="give the .ndjson file of one category")
    files = sorted(file for file in path.iterdir() if file.suffix == ".json")
    if not files:
        raise DataError(f"data.path: {section.path!r} holds no .json files")
    return [(file.name, file) for file in files]


def read_drawings(section: DoodlerStrokes | QuickDraw, files: Sequence[NamedFile]) -> Found:
    """Every drawing in `files`, and what could not be used. Raises DataError where that is more than 1 %."""
    read = _reader(section)
    drawings: list[Drawing] = []
    skipped: list[Skipped] = []
    for name, text in _texts(files):
        try:
            drawing = read(json.loads(text))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            skipped.append(Skipped(printable(name), printable(f"{type(error).__name__}: {error}")))
            continue
        if drawing is not None:
            drawings.append(drawing)
    _check(section, drawings, skipped)
    chosen = spread(len(drawings), section.max_drawings)
    return tuple(drawings[index] for index in chosen), tuple(skipped)


def _check(section: DoodlerStrokes | QuickDraw, drawings: list[Drawing], skipped: list[Skipped]) -> None:
    examples = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    if len(skipped) > MAX_SKIPPED_SHARE * (len(drawings) + len(skipped)):
        raise DataError(
            f"data: more than 1 % of the drawings of {section.path!r} cannot be used ({examples})",
            hint=f"is this the layout of kind: {section.kind}? up to 1 % would be skipped and named in the report",
        )
    if not drawings:
        raise DataError(f"data.path: {section.path!r} holds no drawing", hint="see service/REFERENCE.md for the layout")


def _texts(files: Sequence[NamedFile]) -> Iterator[tuple[str, str]]:
    """Named JSON texts: the lines of a single file, or whole files."""
    lines = len(files) == 1 and files[0][1].suffix != ".json"
    for name, path in files:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                if not lines:
                    yield name, file.read(MAX_FILE_BYTES)
                    continue
                for number, line in enumerate(iter(lambda: file.readline(MAX_FILE_BYTES), ""), 1):
                    if line.strip():
                        yield f"line {number}", line
        except OSError as error:
            raise DataError(f"data: {name!r} cannot be read: {error.strerror}") from None


def _reader(section: DoodlerStrokes | QuickDraw) -> Read:
    numbers = {name: number for number, name in enumerate(section.part_names)}
    if isinstance(section, QuickDraw):
        return lambda value: _quickdraw(value, section)
    return lambda value: (
        _example(value, numbers, section.part) if "input_parts" in value else _collected(value, numbers)
    )


def _quickdraw(value: Any, section: QuickDraw) -> Drawing | None:
    """{drawing: [[xs, ys], ...]}: strokes in order, on a canvas of their own; scaled to fill ours, in its middle."""
    if section.recognized_only and not value.get("recognized", True):
        return None
    strokes = [_points(np.array([stroke[0], stroke[1]], np.float64).T) for stroke in value["drawing"]]
    strokes = strokes[: section.strokes]
    _count(strokes)
    points = np.concatenate(strokes)
    low, extent = points.min(0), float(np.ptp(points, axis=0).max())
    scale = CANVAS / max(extent, 1.0)
    placed = _centred({number: ((stroke - low) * scale,) for number, stroke in enumerate(strokes)})
    return Drawing(placed, tuple(range(len(strokes))))


def _collected(value: Any, numbers: dict[str, int]) -> Drawing:
    """{output: {all_strokes: [step][stroke][point], partsUsed: [name]}}: step 0 is the initial stroke, step 1 the eye,
    step k the part partsUsed[k - 2]; the last step holds details of no part. A point: x, y before, x, y after."""
    steps, used = value["output"]["all_strokes"], value["output"]["partsUsed"]
    parts: dict[int, tuple[F64, ...]] = {}
    for at, step in enumerate(steps):
        name = ("initial", "eye")[at] if at < 2 else used[at - 2] if at - 2 < len(used) else "none"
        if name == "none" or (at >= 2 and at == len(steps) - 1):
            continue
        strokes = tuple(_points(_segments(stroke)) for stroke in step if len(stroke))
        if strokes:
            parts[numbers[name]] = parts.get(numbers[name], ()) + strokes
    return _drawing(_centred(parts))


def _segments(stroke: Any) -> F64:
    return np.array([stroke[0][:2], *(point[2:4] for point in stroke)], np.float64)


def _example(value: Any, numbers: dict[str, int], part: str) -> Drawing:
    """{input_parts: {name: [stroke]}, target_part: [stroke]}: one example of `part`, strokes already on our canvas."""
    parts = {
        numbers[name]: tuple(_points(np.array(stroke, np.float64)) for stroke in strokes if len(stroke))
        for name, strokes in value["input_parts"].items()
        if len(strokes)
    }
    target = tuple(_points(np.array(stroke, np.float64)) for stroke in value["target_part"] if len(stroke))
    parts.pop(numbers[part], None)  # an earlier piece of the same part belongs to it
    return _drawing({**parts, numbers[part]: target})


def _drawing(parts: dict[int, tuple[F64, ...]]) -> Drawing:
    _count([stroke for strokes in parts.values() for stroke in strokes])
    return Drawing(parts, tuple(parts))


def _points(points_K2: F64) -> F64:
    """Checked points. Raises ValueError."""
    if points_K2.ndim != 2 or points_K2.shape[1] != 2 or not len(points_K2):
        raise ValueError("a stroke is a list of points with x and y")
    if not np.isfinite(points_K2).all() or np.abs(points_K2).max() > _FARTHEST:
        raise ValueError("a point is not on any canvas")
    return points_K2


def _count(strokes: Sequence[F64]) -> None:
    count = math.fsum(len(stroke) for stroke in strokes)
    if not 0 < count <= MAX_POINTS:
        raise ValueError(f"a drawing of {int(count)} points")


def _centred(parts: dict[int, tuple[F64, ...]]) -> dict[int, tuple[F64, ...]]:
    """Moved by half of what is free at the right and at the bottom of the canvas, as DoodlerGAN's preparation does."""
    if not parts:
        raise ValueError("a drawing without strokes")
    most = np.concatenate([stroke for strokes in parts.values() for stroke in strokes]).max(0)
    return {part: tuple(stroke + (CANVAS - most) / 2 for stroke in strokes) for part, strokes in parts.items()}
