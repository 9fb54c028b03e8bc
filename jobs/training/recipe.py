"""What the loop asks of a GAN, entire: one update, some pictures, its parts. Nothing to inherit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from jobs.training.team import Team


class Stateful(Protocol):
    """Anything a checkpoint can hold: modules, optimizers, running means."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True)
class Known:
    """What a recipe knows of its data when it is built."""

    class_counts: tuple[int, ...] = ()
    """Training images of each class; empty where there are no labels."""
    conditions: Callable[[int, int], Any] | None = None
    """(count, seed) -> what pictures are made from, as the dataset gives it; None where there is no data at hand: then
    only recipes that draw from latents alone can `sample`."""
    classifier: nn.Module | None = None
    """Image [N, C, H, W] in [-1, 1] -> logits; frozen. None where weights are loaded later, or there is none."""
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None
    """A distance of two batches of images in [-1, 1], mean over images, of frozen networks; None: not for training."""


class Recipe(Protocol):
    """A GAN that can be trained: optimizers and the order of updates stand in its `step`, in plain sight."""

    team: Team
    """The processes that train it; its step averages over them what it adds up over micro-batches."""

    @property
    def parts(self) -> Mapping[str, Stateful]:
        """Everything that a checkpoint must hold: networks, EMA copies, optimizers, running means."""
        ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks that learn, by the names used in reports ("G", "D", "encoder" ...), without EMA copies."""
        ...

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """Every optimizer by name; each learnable tensor must be in exactly one."""
        ...

    @property
    def generator_ema(self) -> nn.Module:
        """The averaged generator, whose weights become `generator.safetensors`."""
        ...

    def step(self, batch: Any, images: int) -> dict[str, Tensor]:
        """One iteration on `batch` after `images` real images were shown; returns detached named scalars on the device.

        All randomness comes from torch's default generators, which the loop seeds from (seed, images): micro-batches
        are gone through as `team.shares`, and what is drawn for a whole batch is drawn for that of all processes.
        """
        ...

    def sample(self, count: int, seed: int) -> Tensor:
        """`count` pictures of the EMA generator, [count, C, H, W] in [-1, 1], a pure function of weights and `seed`."""
        ...

    def show(self, count: int, seed: int) -> Tensor:
        """Like `sample`, but as people see them: truncated, or with whatever else the spec asks for pictures."""
        ...

    def effective(self, images: int) -> dict[str, Any]:
        """What is really in force at `images`, in plain numbers: learning rates, gammas, EMA beta, weights."""
        ...
