"""The micro-batches of one step, each with random numbers of its own.

What a micro-batch draws follows from (seed, images, its place in the whole batch), not from which process computes it
or what came before: two processes with one micro-batch each draw what one with two does, and no two draw the same.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import torch

from jobs.training.seeds import derived_seed

T_co = TypeVar("T_co", covariant=True)

States = tuple[torch.Tensor, ...]
"""Of torch's default generators: of the CPU and, where it is used, of the GPU."""


class Shares(Generic[T_co]):
    """`pieces`, of which the first has the place `first` among `total` in the whole batch.

    To be made within a step, and gone through as often as the step likes: each time, a piece draws on from where it
    stopped. A single piece that is the whole batch draws from the step's own generators. After the last piece these are
    as they were before the first: what is drawn then is the same in every process.
    """

    def __init__(self, pieces: Sequence[T_co], first: int, total: int, phase: str) -> None:
        self._pieces = pieces
        seed = torch.initial_seed()
        places = range(first, first + len(pieces)) if total > 1 else ()
        self._states = [_states_of(derived_seed("share", seed, phase, place)) for place in places]

    def __len__(self) -> int:
        return len(self._pieces)

    def __iter__(self) -> Iterator[T_co]:
        if not self._states:
            yield from self._pieces
            return
        outside = _states()
        try:
            for place, piece in enumerate(self._pieces):
                _restore(self._states[place])
                yield piece
                self._states[place] = _states()
        finally:
            _restore(outside)


def _states() -> States:
    cpu = torch.get_rng_state()
    return (cpu, torch.cuda.get_rng_state()) if torch.cuda.is_initialized() else (cpu,)


def _states_of(seed: int) -> States:
    cpu = torch.Generator().manual_seed(seed).get_state()
    if not torch.cuda.is_initialized():
        return (cpu,)
    return cpu, torch.Generator(torch.device("cuda", torch.cuda.current_device())).manual_seed(seed).get_state()


def _restore(states: States) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
