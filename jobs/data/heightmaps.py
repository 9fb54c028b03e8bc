"""HeightMaps: a generated pair of domains whose translation is known pixel by pixel.

A height field of panels, bricks or bumps gives both: A is how it looks, coloured and lit (Lambert, one light from the
upper left), with a cut-out in alpha; B is what it is, normals in red, green and blue, height in alpha. Where A is cut
out, B has height 0 and looks at the viewer, so B follows from A; A does not follow from B, which knows no colour.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from jobs.data.dataset import ImagesU8
from jobs.data.source import Block, Items, Source
from jobs.spec.pairs import HeightMaps

F64 = NDArray[np.float64]
LIGHT = np.array([-0.5, -0.5, 0.7071])
"""Towards the light: left, up, out of the wall; length 1."""
AMBIENT = 0.35
STEEPNESS = 0.12
"""How high 1 is, as a share of the side."""
COARSE = 8
"""Side of the random field that cut-outs come from."""


def heightmaps_source(section: HeightMaps) -> Source:
    """All pairs of `section`, first those to train on, then those to test on: uint8 [8, R, R], A before B."""

    @contextmanager
    def opened() -> Iterator[Items]:
        def decode(start: int, stop: int) -> Block:
            pairs = np.stack([draw_pair(section.seed, index, section.resolution) for index in range(start, stop)])
            return Block(pairs, np.ones(stop - start, np.bool_), [])

        yield Items(section.images + section.test_images, decode)

    return Source("heightmaps", section.model_dump(exclude={"mirror"}), opened)


def draw_pair(seed: int, index: int, side: int) -> ImagesU8:
    """Pair `index` of the set of `seed`: uint8 [8, side, side], RGBA of A, then RGBA of B."""
    draws = np.random.Generator(np.random.PCG64([seed, index]))
    height_HW = _relief(draws, side)
    inside_HW = _cut_out(draws, side)
    height_HW = np.where(inside_HW, height_HW, 0.0)
    normal_3HW = _normals(height_HW, side)
    normal_3HW[:, ~inside_HW] = np.array([0.0, 0.0, 1.0])[:, None]
    light_HW = AMBIENT + (1 - AMBIENT) * np.tensordot(LIGHT, normal_3HW, 1).clip(0)
    colour_3HW = _colours(draws, height_HW) * light_HW
    a = np.concatenate([np.where(inside_HW, colour_3HW, 0.0), inside_HW[None]])
    b = np.concatenate([normal_3HW / 2 + 0.5, height_HW[None]])
    return (np.concatenate([a, b]) * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _relief(draws: np.random.Generator, side: int) -> F64:
    """A height field in [0, 1]."""
    kind = draws.integers(3)
    y, x = np.mgrid[:side, :side] / side
    match kind:
        case 0:
            relief = _panels(draws, x, y)
        case 1:
            relief = _bricks(draws, x, y)
        case _:
            relief = _bumps(draws, x, y)
    relief = gaussian_filter(relief, side / 96, mode="nearest")
    return relief.clip(0, 1)


def _panels(draws: np.random.Generator, x: F64, y: F64) -> F64:
    """Rectangles of random heights on a plate."""
    relief = np.full_like(x, 0.25)
    for _ in range(int(draws.integers(3, 7))):
        left, top = draws.random(2) * 0.8
        wide, high = 0.15 + draws.random(2) * 0.4
        relief[(x >= left) & (x < left + wide) & (y >= top) & (y < top + high)] = draws.random()
    return relief


def _bricks(draws: np.random.Generator, x: F64, y: F64) -> F64:
    """Rows of bricks with joints, every second row shifted by half a brick."""
    rows, columns = int(draws.integers(3, 7)), int(draws.integers(2, 5))
    row = np.floor(y * rows).astype(int)
    along = x * columns + 0.5 * (row % 2)
    column = np.floor(along).astype(int)
    joint = 0.08 + 0.06 * draws.random()
    within = (along - column > joint) & (y * rows - row > joint * rows / columns)
    heights = 0.5 + 0.5 * draws.random((rows, columns + 1))
    return np.where(within, heights[row, column], 0.1)


def _bumps(draws: np.random.Generator, x: F64, y: F64) -> F64:
    """Round hills."""
    relief = np.full_like(x, 0.1)
    for _ in range(int(draws.integers(4, 10))):
        middle_x, middle_y = draws.random(2)
        radius = 0.08 + 0.2 * draws.random()
        squared = ((x - middle_x) ** 2 + (y - middle_y) ** 2) / radius**2
        relief = np.maximum(relief, (0.4 + 0.6 * draws.random()) * np.sqrt((1 - squared).clip(0)))
    return relief


def _cut_out(draws: np.random.Generator, side: int) -> NDArray[np.bool_]:
    """Which pixels there are: half of the walls are whole, the others miss a soft-edged part."""
    field = zoom(draws.standard_normal((COARSE, COARSE)), side / COARSE, order=3, mode="nearest", grid_mode=True)
    return field < (10.0 if draws.random() < 0.5 else 0.6 + 0.6 * draws.random())


def _normals(height_HW: F64, side: int) -> F64:
    """Unit normals [3, H, W]: right, down, towards the viewer."""
    down, right = np.gradient(height_HW * STEEPNESS * side)
    normal = np.stack([-right, -down, np.ones_like(right)])
    return normal / np.sqrt((normal**2).sum(0))


def _colours(draws: np.random.Generator, height_HW: F64) -> F64:
    """Two colours of paint, mixed by height, [3, H, W]."""
    low, high = 0.25 + 0.75 * draws.random((2, 3))
    return low[:, None, None] * (1 - height_HW) + high[:, None, None] * height_HW
