"""What changes the classifier's mind: the search over a trained StylEx, its table, and its picture."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.data import read_attributes
from jobs.data.planted import ATTRIBUTES
from jobs.evaluation.attfind import DOWN, UP, AttFind, Choice, Effects, Flips, Progress
from jobs.networks.stylespace import StyleSpace
from jobs.recipes.stylex import StylEx
from jobs.report import pictures
from jobs.report.model import ExplainedCoordinate, ExplainedImage, Explanation
from jobs.spec.data import PlantedAttributes
from jobs.spec.stylex import AttFind as Section

SHEET = "explanation.png"
WAYS = ("down", "up")
READ_COORDINATES = 10
"""Coordinates whose effect on known attributes is read."""

Reader = Callable[[NDArray[np.uint8]], NDArray[np.int64]]
"""Pictures [N, C, H, W] -> the level of every known attribute, [N, A]"""


@dataclass(frozen=True)
class Search:
    """One search, done."""

    recipe: StylEx
    finder: AttFind
    effects: Effects
    given_NCHW: Tensor
    """What was explained, in [-1, 1]: real images, or what the generator made of latents."""
    class_names: tuple[str, ...]
    reader: Reader | None

    @cached_property
    def chosen(self) -> dict[int, list[Choice]]:
        """By class: the coordinates that lead to it."""
        return {target: self.finder.select(self.effects, target) for target in range(len(self.class_names))}

    @cached_property
    def ranked(self) -> list[tuple[int, Choice]]:
        """The coordinates of all classes, by two-sided effect, each with the class that it leads to."""
        return self.finder.merged(self.effects)

    @cached_property
    def flips(self) -> list[Flips]:
        """By class."""
        found = (self.finder.flips(self.effects, target, chosen) for target, chosen in self.chosen.items())
        return [flips for flips in found if flips.independent]

    def rates(self, kind: str) -> tuple[float, ...]:
        """Share of all images that change to another class, by how many coordinates are moved."""
        most = max((len(flips.independent) for flips in self.flips), default=0)
        total = sum(flips.images for flips in self.flips)
        return tuple(
            sum(flips.images * _at(getattr(flips, kind), place) for flips in self.flips) / total
            for place in range(most)
        )

    def counterfactuals(self, most: int) -> Tensor:
        """Every image with the first `most` coordinates moved that lead to another class (of several, the first)."""
        parts = []
        for said in range(len(self.class_names)):
            place_M = torch.nonzero(self.effects.said_N == said).flatten()
            target = next((other for other in self.chosen if other != said and self.chosen[other]), None)
            if len(place_M) and target is not None:
                parts.append(self.finder.counterfactuals(self.effects, place_M, self.chosen[target][:most]))
        return torch.cat(parts) if parts else self.effects.image_NCHW[:0]

    def moved(self, choice: Choice, direction: int) -> Tensor:
        """Every image with one coordinate moved."""
        way = Choice(choice.index, direction, 0.0, 0.0, 0.0)
        return self.finder.counterfactuals(self.effects, torch.arange(len(self.effects.w_ND)), [way])

    @cached_property
    def attribute_changes(self) -> list[dict[str, float]]:
        """Of the first coordinates in rank: on which share of images each known attribute changes, both ways."""
        if self.reader is None:
            return []
        before_NA = self.reader(_uint8(self.effects.image_NCHW))
        found = []
        for _, choice in self.ranked[:READ_COORDINATES]:
            changes = [self.reader(_uint8(self.moved(choice, way))) != before_NA for way in (DOWN, UP)]
            found.append(dict(zip(ATTRIBUTES, np.concatenate(changes).mean(0).tolist(), strict=True)))
        return found


def search(
    recipe: StylEx,
    image_NCHW: Tensor | None,
    section: Section,
    class_names: tuple[str, ...],
    data: Any = None,
    progress: Progress | None = None,
) -> Search:
    """Explains images in [-1, 1]; without an encoder, or without images, as many that are made from latents.

    `data`: the section of the data, where its attributes can be read.
    """
    encodes = recipe.E_ema is not None and image_NCHW is not None
    w_ND = recipe.encode(image_NCHW) if encodes and image_NCHW is not None else recipe.draw_w(section.images, 0)
    filters = bool(section.drop_least_real) or section.most_score_change is not None
    finder = AttFind(StyleSpace(recipe.G_ema.synthesis), recipe.classifier, section, recipe.score if filters else None)
    effects = finder.measure(w_ND, progress)
    given = image_NCHW if encodes and image_NCHW is not None else recipe.paint(w_ND)
    reader = None
    if isinstance(data, PlantedAttributes):
        resolution = data.resolution

        def reader(image: NDArray[np.uint8]) -> NDArray[np.int64]:
            return read_attributes(image, resolution).level_NA

    return Search(recipe, finder, effects, given.to(w_ND.device), class_names, reader)


def write(found: Search, out: Path) -> Explanation:
    """Writes the sheet of moved images below `out`; returns what the page says beside it."""
    section, shown = found.finder.section, found.ranked[: found.finder.section.shown_coordinates]
    rows_N = _spread_over_classes(found.effects.said_N, section.shown_images)
    towards = shown[0][0] if shown else len(found.class_names) - 1
    columns = list(_columns(found, rows_N, shown))
    sheet = torch.stack(columns, dim=1).flatten(0, 1)
    pictures.write_png(out / SHEET, pictures.grid(_uint8(sheet), len(columns), scale=1))
    probability_RC = torch.stack([found.recipe.classifier(column).softmax(1)[:, towards] for column in columns], dim=1)
    coordinates = tuple(_told(found, place) for place in range(len(found.ranked)))
    return Explanation(
        path=SHEET,
        class_names=found.class_names,
        shown_class=found.class_names[towards],
        coordinates=coordinates,
        shown_coordinates=len(shown),
        images=tuple(
            ExplainedImage(said=found.class_names[int(found.effects.said_N[place])], probabilities=tuple(row))
            for place, row in zip(rows_N.tolist(), probability_RC.tolist(), strict=True)
        ),
        explained=len(found.effects.w_ND),
        given=len(found.given_NCHW),
        encoded=found.recipe.E_ema is not None,
        strategy=section.strategy,
        ranked_by=section.rank_by,
        flips_independent=found.rates("independent"),
        flips_subset=found.rates("subset"),
    )


def _columns(found: Search, rows_N: Tensor, shown: list[tuple[int, Choice]]) -> Iterator[Tensor]:
    """Given, rebuilt, then each coordinate down and up; [rows, C, H, W] each."""
    effects = found.effects
    here = rows_N.to(effects.w_ND.device)
    yield found.given_NCHW[effects.kept_N[rows_N].to(found.given_NCHW.device)]
    yield effects.image_NCHW[here]
    for _, choice in shown:
        for direction in (DOWN, UP):
            way = Choice(choice.index, direction, 0.0, 0.0, 0.0)
            yield found.finder.counterfactuals(effects, rows_N, [way])


def _told(found: Search, place: int) -> ExplainedCoordinate:
    target, choice = found.ranked[place]
    coordinate = found.finder.space.coordinates[choice.index]
    change = found.effects.score_change_2S
    changes = found.attribute_changes
    return ExplainedCoordinate(
        layer=coordinate.layer,
        channel=coordinate.channel,
        towards=found.class_names[target],
        way="up" if choice.direction == UP else "down",
        effect=choice.effect,
        two_sided=choice.two_sided,
        changed_share=choice.changed_share,
        picture_change=float(found.effects.picture_change_2S[:, choice.index].mean()),
        score_change=None if change is None else float(change[choice.direction, choice.index]),
        attributes=changes[place] if place < len(changes) else {},
    )


def _spread_over_classes(said_N: Tensor, count: int) -> Tensor:
    """Positions of at most `count` images, of every class in turn."""
    by_class = [torch.nonzero(said_N == said).flatten().tolist() for said in said_N.unique().tolist()]
    turns = [place for turn in range(len(said_N)) for places in by_class for place in places[turn : turn + 1]]
    return torch.tensor(sorted(turns[:count], key=lambda place: int(said_N[place])), dtype=torch.int64)


def _at(rates: tuple[float, ...], place: int) -> float:
    """The rate with `place` + 1 coordinates, or with as many as there are."""
    return rates[min(place, len(rates) - 1)]


def _uint8(image_NCHW: Tensor) -> NDArray[np.uint8]:
    return pictures.from_signed(image_NCHW.float().cpu().numpy())
