"""ToyBirds: generated drawings of birds whose geometry is known exactly.

A body (an ellipse), a head (a circle that touches it), an eye in the head, a beak on the head's outer side, two legs
under the body, a wing on it and a tail behind it, after an initial stroke that means nothing yet; of random size and
pose, facing left or right, anywhere on the canvas.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.data.draws import uniform
from jobs.data.strokes import CANVAS, F64, Drawing
from jobs.spec.sketch_data import TOYBIRD_PARTS, ToyBirds

INITIAL, EYE, HEAD, BODY, BEAK, LEGS, WINGS, TAIL = range(len(TOYBIRD_PARTS))
_GEOMETRY, _ORDER = 0, 1
_ROUND = np.linspace(0, 2 * np.pi, 25)
_MARGIN = 16.0


@dataclass(frozen=True)
class Truth:
    """The geometry of N birds, in canvas units; x right, y down."""

    facing_N: NDArray[np.int8]
    """1: to the right, -1: to the left."""
    head_N3: F64
    """x, y, radius."""
    body_N5: F64
    """x, y, half the length, half the height, tilt in radians."""
    eye_N2: F64

    def __getitem__(self, index_M: NDArray[np.int64]) -> "Truth":
        return Truth(self.facing_N[index_M], self.head_N3[index_M], self.body_N5[index_M], self.eye_N2[index_M])


@dataclass(frozen=True)
class Flock:
    """Every bird of a set."""

    drawings: tuple[Drawing, ...]
    truth: Truth


def hatch(section: ToyBirds) -> Flock:
    """All birds of the set."""
    draw_NK = uniform(section.seed, _GEOMETRY, np.arange(section.drawings), 28)
    order_NP = uniform(section.seed, _ORDER, np.arange(section.drawings), len(TOYBIRD_PARTS))
    order_NP[:, INITIAL] = -2
    if section.order == "eye_first":
        order_NP[:, EYE] = -1
    birds = [_bird(draws) for draws in draw_NK]
    drawings = tuple(
        Drawing(strokes, tuple(np.argsort(order, kind="stable").tolist()))
        for (strokes, _), order in zip(birds, order_NP, strict=True)
    )
    known = [truth for _, truth in birds]
    return Flock(
        drawings,
        Truth(
            np.array([facing for facing, *_ in known], np.int8),
            np.array([head for _, head, *_ in known]),
            np.array([body for _, _, body, _ in known]),
            np.array([eye for *_, eye in known]),
        ),
    )


def _bird(draws: F64) -> tuple[dict[int, tuple[F64, ...]], tuple[int, F64, F64, F64]]:
    """Strokes by part, and (facing, head, body, eye): drawn around the origin, facing right; then mirrored, placed."""
    u = iter(draws)

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(next(u))

    facing = 1 if next(u) < 0.5 else -1
    length, height, tilt = between(70, 110), between(50, 75), between(-0.35, 0.35)
    body = _ellipse(0, 0, length, height, tilt)
    radius = between(48, 70)
    rim = _on_ellipse(length, height, tilt, between(-1.2, -0.25))  # up is negative
    head_x, head_y = rim * (1 + 0.92 * radius / np.linalg.norm(rim))
    reach, way = between(0, 0.35) * radius, between(-1.0, 0.6)
    eye_x, eye_y = head_x + reach * np.cos(way), head_y + reach * np.sin(way)
    eye_radius = between(0.28, 0.4) * radius
    parts: dict[int, tuple[F64, ...]] = {
        INITIAL: (_curve(between(-60, 0), between(-30, 30), between(20, 90), between(-50, 50), between(-40, 40)),),
        EYE: (_ellipse(eye_x, eye_y, eye_radius, eye_radius, 0),),
        HEAD: (_ellipse(head_x, head_y, radius, radius, 0),),
        BODY: (body,),
        BEAK: (_beak(head_x, head_y, radius, between(-0.35, 0.35), between(0.6, 1.1)),),
        LEGS: tuple(_leg(length, height, tilt, between(*hip), between(45, 80)) for hip in ((0.9, 1.4), (1.6, 2.1))),
        WINGS: (_curve(-0.5 * length, -0.1 * height, 0.9 * length, between(-15, 15), between(0.5, 0.9) * height),),
        TAIL: _tail(length, height, tilt, between(40, 85), between(-0.5, 0.2)),
    }
    mirrored = np.array([facing, 1.0])
    points = np.concatenate([stroke for strokes in parts.values() for stroke in strokes]) * mirrored
    low, high = points.min(0), points.max(0)
    scale = (CANVAS - 2 * _MARGIN) / float((high - low).max()) * between(0.65, 0.95)
    free = CANVAS - 2 * _MARGIN - (high - low) * scale
    shift = _MARGIN - low * scale + free * np.array([next(u), next(u)])

    def placed(points_K2: F64) -> F64:
        return points_K2 * mirrored * scale + shift

    head = np.append(placed(np.array([head_x, head_y])), radius * scale)
    body_N5 = np.concatenate([placed(np.zeros(2)), [length * scale, height * scale, tilt * facing]])
    strokes = {part: tuple(placed(stroke) for stroke in strokes) for part, strokes in parts.items()}
    return strokes, (facing, head, body_N5, placed(np.array([eye_x, eye_y])))


def _ellipse(x: float, y: float, a: float, b: float, tilt: float) -> F64:
    return np.array([x, y]) + np.stack([_on_ellipse(a, b, tilt, angle) for angle in _ROUND])


def _on_ellipse(a: float, b: float, tilt: float, angle: float) -> F64:
    x, y = a * np.cos(angle), b * np.sin(angle)
    return np.array([x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)])


def _curve(x: float, y: float, width: float, drop: float, bend: float) -> F64:
    """A quadratic curve from (x, y) to (x + width, y + drop)."""
    t = np.linspace(0, 1, 9)[:, None]
    start, end = np.array([x, y]), np.array([x + width, y + drop])
    middle = (start + end) / 2 + np.array([0, bend])
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)


def _beak(x: float, y: float, radius: float, way: float, length: float) -> F64:
    """A wedge on the side of the head that looks forward."""
    low, tip, high = ((way - 0.35, 1.0), (way, 1.0 + length), (way + 0.35, 1.0))
    return np.array([[x + r * radius * np.cos(angle), y + r * radius * np.sin(angle)] for angle, r in (low, tip, high)])


def _leg(length: float, height: float, tilt: float, angle: float, reach: float) -> F64:
    """Down from the belly, with a foot forward."""
    hip = _on_ellipse(length, height, tilt, angle)
    return hip + np.array([[0, 0], [0, reach], [18, reach]])


def _tail(length: float, height: float, tilt: float, reach: float, way: float) -> tuple[F64, ...]:
    """Two feathers behind the body."""
    root = _on_ellipse(length, height, tilt, np.pi)
    ends = (np.array([-np.cos(way + spread), np.sin(way + spread)]) * reach for spread in (-0.25, 0.25))
    return tuple(np.stack([root, root + end]) for end in ends)
