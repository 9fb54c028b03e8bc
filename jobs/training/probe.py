"""What a recipe may offer to those who examine it, beyond what the loop asks of it. Each is one method; none changes
the recipe, none advances its clock. A recipe that lacks one is simply not examined in that way.
"""

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
class Styled(Protocol):
    """Its pictures depend on a style and on noise, and each can be held while the other changes."""

    def swap(self, styles: int, noises: int, seed: int) -> Tensor:
        """The same `styles` latents under the same `noises` noises, [styles, noises, C, H, W], averaged generator."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """Its learning rates and penalties can be changed between two steps."""

    def adjust(self, *, learning_rate_factor: float, r1_gamma_factor: float) -> None:
        """Sets learning rates and gamma to the spec's, times these factors; calling it twice is calling it once."""
        ...
