"""AttFind (Lang et al. 2021, Algorithm 1): which style coordinates change a classifier's mind.

Every coordinate of every image is moved to its least and its largest value over all images, and what that does to the
log-odds of every class is kept: log p_c / (1 - p_c), which for two classes is the difference of their logits. From that
table the coordinates of each class are selected; then it is counted how many images change their class when the first
1, 2, ... of them are moved together (independent: the same for all images), or when each image gets the ones that
serve it best (subset).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from jobs.networks.stylespace import StyleSpace
from jobs.spec.stylex import AttFind as Section

DOWN, UP = 0, 1
BASE_COST = 0.01
"""Added to the mean absolute change of pictures in [-1, 1]: what changes hardly anything does not come first for it."""

Classify = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] in [-1, 1] -> logits [N, K]"""
Score = Callable[[Tensor, Tensor], Tensor]
"""The discriminator on images, and logits of the classifier on the unmoved ones: [N]"""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Effects:
    """What every move does to every image that was kept."""

    kept_N: Tensor
    """Positions of these images among those given."""
    w_ND: Tensor
    image_NCHW: Tensor
    """As they are made, unmoved."""
    logits_NK: Tensor
    way_N2S: Tensor
    """How far each coordinate is moved: down, up."""
    effect_N2SK: Tensor
    """Change of the log-odds of every class; on the processor."""
    picture_change_2S: Tensor
    """Mean absolute change of the picture."""
    score_change_2S: Tensor | None
    """Mean absolute change of the discriminator's score."""

    @cached_property
    def said_N(self) -> Tensor:  # noqa: N802
        """The classifier's answers."""
        return self.logits_NK.argmax(1).cpu()


@dataclass(frozen=True)
class Choice:
    """A coordinate that was selected for a class, and the way that leads to it."""

    index: int
    direction: int
    """DOWN or UP"""
    effect: float
    """Mean change of the class's log-odds, over images of other classes."""
    two_sided: float
    """Mean of that and of the loss when images of the class are moved the other way."""
    changed_share: float
    """Images of other classes whose log-odds change by more than `changed_above`."""


@dataclass(frozen=True)
class Flips:
    """Share of images that change to a class, by how many coordinates are moved: 1, 2, ..."""

    target: int
    images: int
    independent: tuple[float, ...]
    subset: tuple[float, ...]


def log_odds(logits_NK: Tensor) -> Tensor:
    """log p_c / (1 - p_c) of every class, [N, K]."""
    classes = logits_NK.shape[1]
    others = torch.eye(classes, device=logits_NK.device, dtype=torch.bool)
    return logits_NK - torch.where(others, -torch.inf, logits_NK[:, None, :]).logsumexp(2)


class AttFind:
    """One search, over the images that `w_ND` [N, D] makes. `score`: only where the section filters by it."""

    def __init__(self, space: StyleSpace, classify: Classify, section: Section, score: Score | None = None) -> None:
        self.space, self.classify, self.section, self.score = space, classify, section, score

    @torch.no_grad()
    def measure(self, w_ND: Tensor, progress: Progress | None = None) -> Effects:
        """Moves every image along every coordinate, in batches on the device."""
        style_NS, image_NCHW, logits_NK = self._unmoved(w_ND)
        score_N = None if self.score is None else self.score(image_NCHW, logits_NK)
        kept_N = self._real_enough(score_N, len(w_ND))
        extreme_2S = torch.stack(style_NS.aminmax(dim=0))
        w_ND, image_NCHW, logits_NK = w_ND[kept_N], image_NCHW[kept_N], logits_NK[kept_N]
        way_N2S = self.section.shift * (extreme_2S[None] - style_NS[kept_N][:, None])
        count, coordinates, classes = len(w_ND), len(self.space), logits_NK.shape[1]
        effect = torch.zeros(count * 2 * coordinates, classes)
        picture_change, score_change = torch.zeros(2, 2 * coordinates, dtype=torch.float64)
        before_NK = log_odds(logits_NK)
        for move_M in _batches(count * 2 * coordinates, self.section.batch, w_ND.device):
            image_M, flat_M = move_M // (2 * coordinates), move_M % (2 * coordinates)
            direction_M, index_M = flat_M // coordinates, flat_M % coordinates
            shift_MS = torch.zeros(len(move_M), coordinates, device=w_ND.device)
            shift_MS[torch.arange(len(move_M)), index_M] = way_N2S[image_M, direction_M, index_M]
            moved = self.space.moved(w_ND[image_M], shift_MS)
            effect[move_M.cpu()] = (log_odds(self.classify(moved)) - before_NK[image_M]).float().cpu()
            change_M = (moved - image_NCHW[image_M]).abs().mean((1, 2, 3))
            picture_change.index_add_(0, flat_M.cpu(), change_M.double().cpu() / count)
            if self.score is not None and score_N is not None:
                change_M = (self.score(moved, logits_NK[image_M]) - score_N[kept_N][image_M]).abs()
                score_change.index_add_(0, flat_M.cpu(), change_M.double().cpu() / count)
            if progress is not None:
                progress(int(move_M[-1]) + 1, len(effect))
        effect_N2SK = effect.view(count, 2, coordinates, classes)
        picture_change_2S = picture_change.view(2, coordinates)
        score_change_2S = None if self.score is None else score_change.view(2, coordinates)
        found = Effects(
            kept_N.cpu(), w_ND, image_NCHW, logits_NK, way_N2S, effect_N2SK, picture_change_2S, score_change_2S
        )
        return self._stable(found)

    def select(self, effects: Effects, target: int) -> list[Choice]:
        """The coordinates of the class `target`, by the section's strategy, best first."""
        others_N = effects.said_N != target
        if not bool(others_N.any()):
            return []
        effect_M2S = effects.effect_N2SK[others_N, :, :, target]
        allowed_2S = torch.ones(effect_M2S.shape[1:], dtype=torch.bool)
        if self.section.most_score_change is not None and effects.score_change_2S is not None:
            allowed_2S = effects.score_change_2S <= self.section.most_score_change
        cost_2S = self._cost(effects)
        match self.section.strategy:
            case "largest_effect":
                chosen = list(self._by_largest_effect(effect_M2S, allowed_2S, cost_2S))
            case "most_images":
                chosen = list(self._by_most_images(effect_M2S, allowed_2S, cost_2S))
        return [self._choice(effects, target, direction, index) for direction, index in chosen]

    def merged(self, effects: Effects) -> list[tuple[int, Choice]]:
        """The selected coordinates of all classes, each once with its class, by two-sided effect for its cost.

        Of two classes a way to one is the other way from the other: both lists are told of as ways to class 1.
        """
        classes = effects.logits_NK.shape[1]
        found: dict[int, tuple[int, Choice]] = {}
        for target in range(classes):
            for choice in self.select(effects, target):
                turned = classes == 2 and target == 0
                direction = UP + DOWN - choice.direction if turned else choice.direction
                towards = 1 if turned else target
                told = self._choice(effects, towards, direction, choice.index)
                if choice.index not in found or told.two_sided > found[choice.index][1].two_sided:
                    found[choice.index] = (towards, told)
        cost_S = self._cost(effects).mean(0)
        return sorted(found.values(), key=lambda pair: -pair[1].two_sided / float(cost_S[pair[1].index]))

    def _cost(self, effects: Effects) -> Tensor:
        """What the effect of each move is divided by before it is ranked, [2, S]: 1 where only the effect counts."""
        change_2S = effects.picture_change_2S
        return change_2S + BASE_COST if self.section.rank_by == "effect_per_change" else torch.ones_like(change_2S)

    @torch.no_grad()
    def flips(self, effects: Effects, target: int, choices: list[Choice]) -> Flips:
        """How many images of other classes become `target` with 1, 2, ... of its coordinates."""
        place_M = torch.nonzero(effects.said_N != target).flatten()
        if not len(place_M) or not choices:
            return Flips(target, len(place_M), (), ())
        independent = []
        for most in range(1, len(choices) + 1):
            said_M = self.classify(self.counterfactuals(effects, place_M, choices[:most])).argmax(1)
            independent.append(float((said_M == target).float().mean()))
        return Flips(target, len(place_M), tuple(independent), self._subset(effects, place_M, target, choices))

    @torch.no_grad()
    def counterfactuals(self, effects: Effects, place_M: Tensor, choices: list[Choice]) -> Tensor:
        """The images at `place_M` with all of `choices` moved, [M, C, R, R]."""
        place_M = place_M.to(effects.w_ND.device)
        shift_MS = torch.zeros(len(place_M), len(self.space), device=effects.w_ND.device)
        for choice in choices:
            shift_MS[:, choice.index] = effects.way_N2S[place_M, choice.direction, choice.index]
        parts = zip(effects.w_ND[place_M].split(self.section.batch), shift_MS.split(self.section.batch), strict=True)
        return torch.cat([self.space.moved(w, shift) for w, shift in parts])

    def _unmoved(self, w_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        styles, images = zip(*(self.space.read(part) for part in w_ND.split(self.section.batch)), strict=True)
        logits = [self.classify(image) for image in images]
        return torch.cat(styles), torch.cat(images), torch.cat(logits)

    def _real_enough(self, score_N: Tensor | None, count: int) -> Tensor:
        """Positions of the images that the discriminator does not find the least real."""
        dropped = int(self.section.drop_least_real * count)
        if score_N is None or not dropped:
            return torch.arange(count, device=None if score_N is None else score_N.device)
        return score_N.argsort()[dropped:].sort().values

    def _stable(self, effects: Effects) -> Effects:
        """Without the images on which nearly everything has an effect."""
        if self.section.unstable_share >= 1:
            return effects
        acts_N = (effects.effect_N2SK.abs().amax(3) > self.section.unstable_effect).double().mean((1, 2))
        stays = acts_N <= self.section.unstable_share
        if not bool(stays.any()):
            return effects
        there = stays.to(effects.w_ND.device)
        return replace(
            effects,
            kept_N=effects.kept_N[stays],
            w_ND=effects.w_ND[there],
            image_NCHW=effects.image_NCHW[there],
            logits_NK=effects.logits_NK[there],
            way_N2S=effects.way_N2S[there],
            effect_N2SK=effects.effect_N2SK[stays],
        )

    def _by_largest_effect(self, effect_M2S: Tensor, allowed_2S: Tensor, cost_2S: Tensor) -> Iterator[tuple[int, int]]:
        """Greedily the largest mean effect on the images not yet explained; when all are, on all of them again."""
        free_2S = allowed_2S.clone()
        total_M = torch.zeros(len(effect_M2S))
        for _ in range(self.section.coordinates):
            waiting_M = total_M <= self.section.explained_above
            if not bool(waiting_M.any()):
                total_M.zero_()
                waiting_M = torch.ones_like(waiting_M)
            mean_2S = (effect_M2S[waiting_M].mean(0) / cost_2S).masked_fill(~free_2S, -torch.inf)
            direction, index = divmod(int(mean_2S.argmax()), mean_2S.shape[1])
            if not float(mean_2S[direction, index]) > 0:
                return
            free_2S[:, index] = False
            total_M += effect_M2S[:, direction, index]
            yield direction, index

    def _by_most_images(self, effect_M2S: Tensor, allowed_2S: Tensor, cost_2S: Tensor) -> Iterator[tuple[int, int]]:
        """By how many images change by more than a threshold; among equals, by the mean effect."""
        share_2S = (effect_M2S > self.section.changed_above).double().mean(0)
        mean_2S = effect_M2S.double().mean(0)
        rank_2S = (share_2S + torch.sigmoid(mean_2S) / (10 * len(effect_M2S))) / cost_2S
        rank_2S = rank_2S.masked_fill(~allowed_2S | (share_2S < self.section.least_share), -torch.inf)
        best_S, direction_S = rank_2S.max(0)
        for index in best_S.argsort(descending=True)[: self.section.coordinates].tolist():
            if best_S[index] == -torch.inf:
                return
            yield int(direction_S[index]), index

    def _choice(self, effects: Effects, target: int, direction: int, index: int) -> Choice:
        others_N = effects.said_N != target
        there_N = effects.effect_N2SK[others_N, direction, index, target]
        back_N = -effects.effect_N2SK[~others_N, UP + DOWN - direction, index, target]
        effect = float(there_N.mean()) if len(there_N) else 0.0
        sides = [float(side.mean()) for side in (there_N, back_N) if len(side)]
        changed = float((there_N > self.section.changed_above).double().mean()) if len(there_N) else 0.0
        return Choice(index, direction, effect, sum(sides) / len(sides), changed)

    def _subset(self, effects: Effects, place_M: Tensor, target: int, choices: list[Choice]) -> tuple[float, ...]:
        """Greedily for each image: of the coordinates left, the one after which the class is most likely."""
        device = effects.w_ND.device
        place_M = place_M.to(device)
        way_MC = torch.stack([effects.way_N2S[place_M, c.direction, c.index] for c in choices], dim=1)
        index_C = torch.tensor([choice.index for choice in choices], device=device)
        taken_MC = torch.zeros(way_MC.shape, dtype=torch.bool, device=device)
        flipped_M = torch.zeros(len(place_M), dtype=torch.bool, device=device)
        rates = []
        for _ in choices:
            waiting_M = torch.nonzero(~flipped_M).flatten()
            if len(waiting_M):
                w_ND, taken = effects.w_ND[place_M[waiting_M]], taken_MC[waiting_M]
                logits_MCK = self._with_one_more(w_ND, way_MC[waiting_M], taken, index_C)
                odds_MC = log_odds(logits_MCK.flatten(0, 1))[:, target].view(taken.shape)
                chosen_M = odds_MC.masked_fill(taken, -torch.inf).argmax(1)
                taken_MC[waiting_M, chosen_M] = True
                logits_MK = logits_MCK[torch.arange(len(waiting_M)), chosen_M]
                flipped_M[waiting_M] = logits_MK.argmax(1) == target
            rates.append(float(flipped_M.float().mean()))
        return tuple(rates)

    def _with_one_more(self, w_MD: Tensor, way_MC: Tensor, taken_MC: Tensor, index_C: Tensor) -> Tensor:
        """The classifier's logits with what is taken and, in turn, each of the coordinates, [M, C, K]."""
        images, candidates = taken_MC.shape
        logits = []
        for move_B in _batches(images * candidates, self.section.batch, w_MD.device):
            image_B, candidate_B = move_B // candidates, move_B % candidates
            used_BC = taken_MC[image_B].clone()
            used_BC[torch.arange(len(move_B)), candidate_B] = True
            shift_BS = torch.zeros(len(move_B), len(self.space), device=w_MD.device)
            shift_BS[:, index_C] = way_MC[image_B] * used_BC
            logits.append(self.classify(self.space.moved(w_MD[image_B], shift_BS)))
        return torch.cat(logits).view(images, candidates, -1)


def _batches(count: int, batch: int, device: torch.device) -> Iterator[Tensor]:
    return iter(torch.arange(count, device=device).split(batch))
