"""PlantedAttributes: a generated set in which it is known what makes the class, and the readers of its attributes.

Six independent attributes: hue of the body, its size, how many stripes it has, whether it has an eye, how bright the
ground is, and which way the body points. Every combination is one image, so all six attributes of any picture can be
read at once: those of the nearest of the 3,072 templates, exact on the data itself. Lengths are in pixels of a
32 x 32 image.
"""

import colorsys
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from jobs.data.dataset import ImagesU8, LabelsI64
from jobs.data.source import Block, Items, Source
from jobs.spec.data import ATTRIBUTE_LEVELS, Attribute, PlantedAttributes

F32 = NDArray[np.float32]

ATTRIBUTES: tuple[Attribute, ...] = tuple(ATTRIBUTE_LEVELS)
CLASS_NAMES = ("plain", "marked")

_LEVELS = tuple(ATTRIBUTE_LEVELS.values())
_LONG_PIXELS = (7.5, 9.5, 11.5, 13.5)
"""Half of the body's length, by size; it is 0.62 times as wide."""
_SLENDERNESS = 0.62
_STRIPES = (0.05, -0.28, -0.61)
"""Where along the body, in halves of its length, the first, second and third stripe lie; each is 0.2 wide."""
_STRIPE_HALF_WIDTH = 0.1
_EYE_PLACE, _EYE_RADIUS_PIXELS = 0.55, 2.2
_DEGREES = (0, 45, 90, 135)
_GROUNDS = (60, 110, 160, 210)
_STRIPE_COLOUR, _EYE_COLOUR = 25, 255
_SUPERSAMPLE = 8
_BLOCK = 1024


@dataclass(frozen=True)
class Readings:
    """What pictures show, each as the template that it is nearest to."""

    level_NA: LabelsI64
    """The level of every attribute, in the order of ATTRIBUTES."""
    error_N: F32
    """Root mean square difference to that template, in levels of 0 to 255: 0 for images of the set."""


def planted_source(section: PlantedAttributes) -> Source:
    """The set that `section` describes; draws nothing yet."""

    @contextmanager
    def opened() -> Iterator[Items]:
        level_NA = _levels(section)
        number_N = _number(level_NA)
        templates_TCHW = _templates(section.resolution)
        yield Items(
            section.images,
            lambda start, stop: Block(templates_TCHW[number_N[start:stop]], np.ones(stop - start, dtype=np.bool_), []),
            classes(level_NA, section) if section.labels else None,
            number_N,
            CLASS_NAMES if section.labels else (),
        )

    return Source("planted_attributes", section.model_dump(exclude={"mirror"}), opened)


def generate(section: PlantedAttributes) -> tuple[ImagesU8, LabelsI64]:
    """All images of the set [N, 3, R, R], and the level of each of their attributes [N, 6]."""
    level_NA = _levels(section)
    return _templates(section.resolution)[_number(level_NA)], level_NA


def classes(level_NA: LabelsI64, section: PlantedAttributes) -> LabelsI64:
    """The class by the rule of PlantedAttributes, [N]; in whole numbers, so that no rounding decides."""
    a, b = sorted((ATTRIBUTES.index(name) for name in section.causal), key=lambda index: -_LEVELS[index])
    most_a, most_b = _LEVELS[a] - 1, _LEVELS[b] - 1
    both = level_NA[:, a] * most_b + level_NA[:, b] * most_a
    return ((both > most_a * most_b) | ((both == most_a * most_b) & (2 * level_NA[:, a] > most_a))).astype(np.int64)


def read_attributes(images_NCHW: ImagesU8, resolution: int = 32) -> Readings:
    """All attributes of pictures [N, 3, R, R], by the nearest template in squared distance."""
    template_TP, energy_T = _compared(resolution)
    number, error = [], []
    for start in range(0, len(images_NCHW), _BLOCK):
        image_NP = images_NCHW[start : start + _BLOCK].reshape(-1, template_TP.shape[1]).astype(np.float32)
        nearest_N = (energy_T - 2 * image_NP @ template_TP.T).argmin(1)  # |x - t|² but for |x|²
        number.append(nearest_N)
        error.append(np.sqrt(((image_NP - template_TP[nearest_N]) ** 2).mean(1)))
    number_N = np.concatenate(number) if number else np.empty(0, np.int64)
    level_NA = np.stack(np.unravel_index(number_N, _LEVELS), axis=1).astype(np.int64)
    return Readings(level_NA, np.concatenate(error) if error else np.empty(0, np.float32))


def _levels(section: PlantedAttributes) -> LabelsI64:
    """Each attribute drawn by itself, from raw bits, which numpy keeps equal between its versions."""
    drawn = [
        np.random.PCG64([section.seed, purpose]).random_raw(section.images) % np.uint64(levels)
        for purpose, levels in enumerate(_LEVELS)
    ]
    return np.stack(drawn, axis=1).astype(np.int64)


def _number(level_NA: LabelsI64) -> LabelsI64:
    """The number of the combination: the last attribute counts fastest."""
    return np.asarray(np.ravel_multi_index(tuple(level_NA.T), _LEVELS), dtype=np.int64)


@lru_cache(maxsize=2)
def _templates(resolution: int) -> ImagesU8:
    """Every combination in the order of its number, [3072, 3, R, R]."""
    images = [_draw(level_A, resolution) for level_A in itertools.product(*map(range, _LEVELS))]
    return np.stack(images)


@lru_cache(maxsize=2)
def _compared(resolution: int) -> tuple[F32, F32]:
    """Every template as one row, and its energy."""
    template_TP = _templates(resolution).reshape(math.prod(_LEVELS), -1).astype(np.float32)
    return template_TP, (template_TP**2).sum(1)


def _draw(level_A: tuple[int, ...], resolution: int) -> ImagesU8:
    hue, size, stripes, eye, ground, rotation = level_A
    skin_HW, stripe_HW, eye_HW = _coverage(resolution, size, stripes, eye, rotation)
    colour_C = np.array(colorsys.hsv_to_rgb(hue / _LEVELS[0], 0.85, 0.9), dtype=np.float32) * 255
    ground_HW = (1 - skin_HW - stripe_HW - eye_HW) * _GROUNDS[ground]
    grey_HW = ground_HW + stripe_HW * _STRIPE_COLOUR + eye_HW * _EYE_COLOUR
    return (grey_HW + colour_C[:, None, None] * skin_HW + 0.5).astype(np.uint8)


@lru_cache(maxsize=256)
def _coverage(resolution: int, size: int, stripes: int, eye: int, rotation: int) -> tuple[F32, F32, F32]:
    """How much of every pixel is skin, stripe and eye, [R, R] each."""
    fine = ((np.arange(resolution * _SUPERSAMPLE) + 0.5) * 32 / (resolution * _SUPERSAMPLE) - 16).astype(np.float32)
    angle = math.radians(_DEGREES[rotation])
    along = (fine[None, :] * math.cos(angle) - fine[:, None] * math.sin(angle)) / _LONG_PIXELS[size]
    across = (fine[None, :] * math.sin(angle) + fine[:, None] * math.cos(angle)) / _LONG_PIXELS[size]
    body = along**2 + (across / _SLENDERNESS) ** 2 <= 1
    striped = np.zeros_like(body)
    for place in _STRIPES[:stripes]:
        striped |= body & (abs(along - place) <= _STRIPE_HALF_WIDTH)
    radius = _EYE_RADIUS_PIXELS / _LONG_PIXELS[size]
    seeing = body & ((along - _EYE_PLACE) ** 2 + across**2 <= radius**2) & bool(eye)
    return tuple(_averaged(part, resolution) for part in (body & ~striped & ~seeing, striped & ~seeing, seeing))  # type: ignore[return-value]


def _averaged(inside: NDArray[np.bool_], resolution: int) -> F32:
    return inside.reshape(resolution, _SUPERSAMPLE, resolution, _SUPERSAMPLE).mean((1, 3), dtype=np.float32)
