"""The wiring check: is everything that should learn connected, once, to what should teach it?

Before the first step a twin of the recipe, with the same spec and weights of its own, takes two small steps while its
gradients are watched, and is then dropped. After the tenth step of the run itself no parameter may still be where it
began. Neither touches the run: its weights, its random numbers, its data are the same with and without.

A failure ends the run as a verdict does (exit code 67): the same spec would fail the same way on any machine, so a
retry, which an internal error (70) gets, would only cost more hours.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from jobs.diagnosis.detector import Finding
from jobs.diagnosis.flow import Flow, owners_of, paths, reached
from jobs.diagnosis.layers import bounded_by, inert_dilations, not_finite_on_constants, recording, shifting_kernels
from jobs.errors import Diverged
from jobs.training.probe import Growing, Judged, Late, Logits, Staged, judges_of
from jobs.training.recipe import Recipe
from jobs.training.seeds import derived_seed

NAME = "wiring"
PROBE_STEPS, TOY_STEPS, SETTLED_STEPS = 2, 12, 10
MOST_NAMED = 5
HINT = "this is a mistake in the recipe or in its spec, not of the data; `diagnosis.wiring: false` trains all the same"


class Miswired(Diverged):
    """The wiring check found connections that are wrong."""

    def __init__(self, problems: list[str], images: int) -> None:
        named = "; ".join(problems[:MOST_NAMED])
        more = f"; and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        super().__init__(f"wiring: {named}{more}", hint=HINT)
        self.finding = Finding(NAME, "failure", images, float(len(problems)), 0.0, named + more, HINT)


def check_wiring(build: Callable[[], Recipe], batch: Any, batch_images: int) -> Finding:
    """Examines a twin made by `build` on `batch` of `batch_images` images; returns the verdict of a healthy one.

    Raises Miswired that names the path of every tensor or module at fault.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(NAME))
        recipe = build()
        flow = Flow(recipe)
        with recording(recipe.networks) as calls, flow:
            for begin in recipe.stages() if isinstance(recipe, Growing) else (0,):
                for step in range(PROBE_STEPS):
                    recipe.step(batch, begin + step * batch_images)
                    flow.step_ended()
        problems = [*flow.problems, *flow.ownership(), *_unowned(recipe, flow)]
        problems += [*inert_dilations(calls), *shifting_kernels(calls), *not_finite_on_constants(calls)]
        for name, judged in judges_of(recipe).items():
            problems += [f"the {name}{problem}" for problem in _judges_badly(recipe, judged, batch)]
    if problems:
        raise Miswired(problems, 0)
    tensors = f"{len(owners_of(recipe))} tensors, each in one optimizer"
    return Finding(NAME, "healthy", 0, 0.0, 0.0, f"{tensors} and reached by one of {flow.backwards} backward passes")


def _unowned(recipe: Recipe, flow: Flow) -> list[str]:
    """Learnable tensors that neither a loss nor an optimizer knows."""
    owners = owners_of(recipe)
    return [
        f"{path}: wants a gradient, but no loss reaches it and no optimizer has it"
        for key, path in paths(recipe).items()
        if key not in owners and key not in flow.ever_reached
    ]


def _judges_badly(recipe: Recipe, judged: Judged, batch: Any) -> list[str]:
    """A discriminator's head, its targets, and whether it can learn a pair of batches that can be told apart.

    Each sentence goes on after the discriminator's name.
    """
    logits = judged.judge(batch, 0)
    sentences = []
    if bound := bounded_by(logits.real_N):
        sentences.append(f"'s logits end in {bound}: a head must have an unbounded range")
    real, fake = _pulls(judged)
    if not real > 0 > fake:
        sentences.append(
            f"'s targets: its loss moves logits of real images by {real:+.3g} and those of generated "
            f"ones by {fake:+.3g}, but it must raise the first and lower the second"
        )
        return sentences
    before, after = _learns_pair(recipe, judged, batch)
    if not after < before:
        sentences.append(
            f" does not learn: on one fixed pair of batches its loss goes from {before:.4g} to "
            f"{after:.4g} in {TOY_STEPS} steps"
        )
    return sentences


def _pulls(judged: Judged) -> tuple[float, float]:
    """In which direction the loss moves logits of real and of generated images that are both 1/4: a little real."""
    logits = Logits(*(torch.full([4, 1], 0.25, requires_grad=True) for _ in range(2)))
    real, fake = torch.autograd.grad(judged.judgement_loss(logits), tuple(logits), allow_unused=True)
    return tuple(0.0 if x is None else -float(x.mean()) for x in (real, fake))  # type: ignore[return-value]


def _learns_pair(recipe: Recipe, judged: Judged, batch: Any) -> tuple[float, float]:
    """The loss on one fixed pair, before and after a few steps of the optimizers that it reaches."""
    losses = []
    for _ in range(TOY_STEPS):
        loss = judged.judgement_loss(judged.judge(batch, 0))
        owners = owners_of(recipe)
        names = {name for leaf in reached(loss) for name in owners.get(id(leaf), ())}
        for optimizer in recipe.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for name in names:
            recipe.optimizers[name].step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


class Settled:
    """After the tenth step of a run: has every tensor that an optimizer holds moved?"""

    def __init__(self, recipe: Recipe, batch: int) -> None:
        """To be made before the first step. Holds a copy of every weight, in main memory, until it was asked."""
        self.recipe, self.due_images = recipe, SETTLED_STEPS * batch
        resting = recipe.resting(0) if isinstance(recipe, Staged) else frozenset[str]()
        self._began: dict[int, Tensor] = {
            id(tensor): tensor.detach().to("cpu", copy=True) for tensor in _held(recipe, resting)
        }

    def refuse_unmoved(self) -> None:
        """Raises Miswired with one sentence for each tensor that is where it began."""
        names = paths(self.recipe)
        late = self.recipe.late(self.due_images) if isinstance(self.recipe, Late) else ()
        asked = self._began.keys() - {id(tensor) for tensor in late}
        still = [
            names.get(id(tensor), "a tensor of no network")
            for tensor in _held(self.recipe)
            if id(tensor) in asked and torch.equal(tensor.detach().cpu(), self._began[id(tensor)])
        ]
        problems = [f"{path}: has not moved in {SETTLED_STEPS} steps, though an optimizer holds it" for path in still]
        if problems:
            raise Miswired(problems, self.due_images)


def _held(recipe: Recipe, resting: frozenset[str] = frozenset()) -> Iterator[Tensor]:
    """What the optimizers hold, but for those that make no step yet."""
    for name, optimizer in recipe.optimizers.items():
        for group in optimizer.param_groups if name not in resting else ():
            yield from group["params"]
