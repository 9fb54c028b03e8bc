"""What a recipe may offer to those who examine it, beyond what the loop asks of it. Each is one method; none changes
the recipe, none advances its clock. A recipe that lacks one is simply not examined in that way.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Logits(NamedTuple):
    """A discriminator's verdict; larger means more real."""

    real_N: Tensor
    fake_M: Tensor


@runtime_checkable
class Judged(Protocol):
    """It has a discriminator whose verdict can be asked for."""

    def judge(self, batch: Any, seed: int) -> Logits:
        """The discriminator on the real images of `batch` and on as many of the generator's that is in training.

        Differentiable with respect to the discriminator.
        """
        ...

    def judgement_loss(self, logits: Logits) -> Tensor:
        """What the discriminator minimises (without penalties), of its verdict."""
        ...

    def judge_gradient(self, batch: Any) -> Tensor:
        """‖∇D(real)‖² summed over pixels, mean over the real images of `batch`."""
        ...


@runtime_checkable
class JudgedByMany(Protocol):
    """It has several discriminators."""

    @property
    def judges(self) -> Mapping[str, Judged]:
        """Each by its name, which the scalar of its loss has too: `loss.NAME`."""
        ...


def judges_of(recipe: Any) -> Mapping[str, Judged]:
    """Every discriminator of `recipe` that can be asked, by name."""
    if isinstance(recipe, JudgedByMany):
        return recipe.judges
    return {"discriminator": recipe} if isinstance(recipe, Judged) else {}


@runtime_checkable
class Styled(Protocol):
    """Its pictures depend on a style and on noise, and each can be held while the other changes."""

    def swap(self, styles: int, noises: int, seed: int) -> Tensor:
        """The same `styles` latents under the same `noises` noises, [styles, noises, C, H, W], averaged generator."""
        ...


@runtime_checkable
class Staged(Protocol):
    """Some of its optimizers make no step at times, and are meant not to: their turn comes later, or is over."""

    def resting(self, images: int) -> frozenset[str]:
        """Their names at `images`."""
        ...


@runtime_checkable
class Growing(Protocol):
    """Layers join as resolution grows."""

    def stages(self) -> tuple[int, ...]:
        """Image counts at which a step trains every layer, between them."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """Its learning rates and penalties can be changed between two steps."""

    def adjust(self, *, learning_rate_factor: float, r1_gamma_factor: float) -> None:
        """Sets learning rates and gamma to the spec's, times these factors; calling it twice is calling it once."""
        ...


@runtime_checkable
class Late(Protocol):
    """Some tensors of an optimizer that steps learn only later, as the spec says."""

    def late(self, images: int) -> Collection[Tensor]:
        """Those that do not learn in the step after `images`."""
        ...
