"""Whole drawings, part after part, from checkpoints of `kind: sketch`, one for each part (DoodlerGAN, Ge et al. 2021).

An initial stroke, as people drew it; then the eye, where there is a generator of eyes: the best of ten; then whatever
the selector thinks comes next, until it says none. Without a selector the parts follow in the order of their list.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata
from torch import Tensor

from jobs.errors import DataError
from jobs.recipes.sketch import GREY, Sketch, with_whole
from jobs.sampling import load_recipe
from jobs.training.seeds import derived_seed, generator

CANDIDATES = 10
"""Eyes to choose from."""
INITIAL = 0
EYE = "eye"
_INK = 64


@dataclass(frozen=True)
class Step:
    """A drawing after one more part; ink 255, paper 0."""

    part: str
    ink_RR: NDArray[np.uint8]
    """All of it."""
    new_RR: NDArray[np.uint8]
    """The part that was just drawn."""


class Artist:
    """Generators of parts that fit together. Raises DataError where they do not, or where one is no sketch."""

    def __init__(self, checkpoints: Sequence[Path]) -> None:
        self.generators: dict[int, Sketch] = {}
        for path in checkpoints:
            _, recipe = load_recipe(path)
            if not isinstance(recipe, Sketch):
                raise DataError(f"{path}: not a checkpoint of kind: sketch")
            if recipe.part in self.generators:
                raise DataError(f"{path}: a second generator of the part {recipe.section.data.part!r}")
            self.generators[recipe.part] = recipe
        first = next(iter(self.generators.values()))
        self.parts, self.resolution, self.device = first.section.data.part_names, first.resolution, first.device
        for path, recipe in zip(checkpoints, self.generators.values(), strict=True):
            if recipe.section.data.part_names != self.parts or recipe.resolution != self.resolution:
                raise DataError(f"{path}: of other parts, or of another resolution, than {checkpoints[0]}")
        self.beginnings = first.drawer_ema.beginnings.cpu()
        selectors = (recipe.drawer_ema.selector for recipe in self.generators.values())
        self.selector = next((selector for selector in selectors if selector is not None), None)

    def draw(self, seed: int) -> tuple[Step, ...]:
        """One drawing, step by step, a function of `seed`."""
        cpu = generator(torch.device("cpu"), "drawing", seed)
        start = int(torch.randint(len(self.beginnings), [], generator=cpu))
        given_PHW = torch.zeros_like(self.beginnings[start])
        given_PHW[INITIAL] = self.beginnings[start, INITIAL]
        steps = [self._step(INITIAL, given_PHW)]
        for part in self._following(given_PHW, cpu):
            given_PHW[part] = self._part(part, given_PHW, derived_seed("part", seed, part))
            steps.append(self._step(part, given_PHW))
        return tuple(steps)

    def _following(self, given_PHW: Tensor, cpu: torch.Generator) -> Iterator[int]:
        """The parts to draw, one after another; looks at `given_PHW` each time anew."""
        left = sorted(self.generators)
        if EYE in self.parts and (eye := self.parts.index(EYE)) in left:
            left.remove(eye)
            yield eye
        while left:
            part = self._selected(given_PHW, left, cpu)
            if part is None:
                return
            left.remove(part)
            yield part

    @torch.no_grad()
    def _selected(self, given_PHW: Tensor, left: list[int], cpu: torch.Generator) -> int | None:
        """The next of the parts that are left; None: the drawing is finished."""
        if self.selector is None:
            return left[0]
        drawing = with_whole(given_PHW[None].to(self.device).float() / 255)
        choices = [*left, len(self.parts)]
        chances = self.selector(drawing)[0, choices].softmax(0).cpu()
        chosen = choices[int(torch.multinomial(chances, 1, generator=cpu))]
        return None if chosen == len(self.parts) else chosen

    def _part(self, part: int, given_PHW: Tensor, seed: int) -> Tensor:
        """uint8 [R, R]: the part for this drawing; of eyes, the best of ten."""
        count = CANDIDATES if self.parts[part] == EYE else 1
        given_NPHW = given_PHW.expand(count, -1, -1, -1)
        ink_NHW = (255 * self.generators[part].continued(given_NPHW, seed)[:, 0]).round().byte().cpu()
        return ink_NHW[best_of(ink_NHW.numpy(), given_PHW.amax(0).numpy())]

    def _step(self, part: int, given_PHW: Tensor) -> Step:
        return Step(self.parts[part], given_PHW.amax(0).numpy().copy(), given_PHW[part].numpy().copy())


def best_of(ink_NHW: NDArray[np.uint8], given_HW: NDArray[np.uint8]) -> int:
    """Of several candidates the one that is large and near to the drawing: the least sum of both ranks."""
    if len(ink_NHW) == 1:
        return 0
    away_HW = ndimage.distance_transform_edt(given_HW < _INK) if (given_HW >= _INK).any() else np.zeros(given_HW.shape)
    near_N = [float(away_HW[ink_HW >= _INK].min(initial=np.inf)) for ink_HW in ink_NHW]
    size_N = [int((ink_HW >= _INK).sum()) for ink_HW in ink_NHW]
    return int((rankdata(near_N) + rankdata([-size for size in size_N])).argmin())


def sheet(drawings: Sequence[Sequence[Step]]) -> tuple[NDArray[np.uint8], int]:
    """Tiles [rows · columns, 1, R, R], dark ink on light paper, and the columns: a row a drawing, a column a step, what
    is new in black; the whole drawing last."""
    columns = max(len(steps) for steps in drawings) + 1
    tiles = []
    for steps in drawings:
        shown = [np.maximum(step.new_RR, (GREY * step.ink_RR).astype(np.uint8)) for step in steps]
        shown += [steps[-1].ink_RR] * (columns - len(shown))
        tiles += [255 - ink_RR for ink_RR in shown]
    return np.stack(tiles)[:, None], columns
