"""What networks weigh."""

from dataclasses import dataclass, replace

from jobs.spec.layer_shapes import LayerShape


@dataclass(frozen=True)
class Layers:
    """What a network weighs."""

    parameters: int
    activations_per_image: int
    """Numbers kept for the backward pass."""


@dataclass(frozen=True)
class Phase:
    """A part of a step, with a backward pass of its own."""

    learning: int
    """Parameters that get gradients."""
    kept: float
    """Numbers kept for the backward pass, an image of the micro-batch."""
    exact: float = 0.0
    """Beside them, numbers that are in float32 whatever the rest computes in."""
    scaled: int = 0
    """Weights that are scaled where they are used (the equalized learning rate), once a pass: kept as they are then."""


@dataclass(frozen=True)
class Size:
    """What a job weighs. All counts are of numbers; `memory_bytes` and `states_bytes` are known of a whole job."""

    parameters: dict[str, int]
    held: int
    """What is always there: weights, moments, averages, remembered images."""
    phases: tuple[Phase, ...]
    per_image: int = 0
    """What a step keeps all along, an image of the whole batch: the images themselves."""
    temporary: int = 0
    """Copies of its gradients that an optimizer makes in a step: fused ones none, others one."""
    remarks: tuple[str, ...] = ()
    """What the spec alone does not tell."""
    networks: tuple["NetworkLayers", ...] = ()
    """Layer by layer, of networks that are written as lists of layers."""
    memory_bytes: int = 0
    """The most that lives at once."""
    states_bytes: int = 0
    """Of it, what does not depend on the batch: weights, gradients, moments, averages."""

    def of(self, batch: int, micro_batch: int, number_bytes: int) -> "Size":
        """The same with its bytes, where activations have `number_bytes` a number.

        A phase takes most where its backward pass begins, when the gradients of earlier micro-batches are there but its
        own are not; or where its optimizer steps.
        """

        def peak_bytes(phase: Phase) -> float:
            earlier = phase.learning if batch > micro_batch else 0
            kept_bytes = micro_batch * (phase.kept * number_bytes + phase.exact * 4) + phase.scaled * number_bytes
            kept_bytes += phase.learning * number_bytes if number_bytes < 4 else 0  # copies of the weights
            return max(4 * earlier + kept_bytes, 4 * phase.learning * (1 + self.temporary))

        states = 4 * (self.held + max(phase.learning for phase in self.phases))
        most = 4 * (self.held + batch * self.per_image) + max(map(peak_bytes, self.phases))
        return replace(self, memory_bytes=int(most), states_bytes=states)


@dataclass(frozen=True)
class NetworkLayers:
    """A network by its name in the spec, and its layers."""

    name: str
    layers: tuple[LayerShape, ...]


def prime_factors(number: int) -> tuple[int, ...]:
    """In rising order: 200 -> 2, 2, 2, 5, 5. One has none."""
    factors: list[int] = []
    divisor = 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return tuple(factors)
