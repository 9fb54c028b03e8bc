"""Randomness as a function of place: every draw follows from (seed, images, share), never from what ran before.

That is what makes a stopped and resumed run equal to an unbroken one: nothing about generators has to be saved.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from `parts`; nearby parts give unrelated seeds."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_step(seed: int, images: int) -> None:
    """Seeds torch's default generators, of the CPU and of every GPU, for the step at `images`: in every process alike.

    What each micro-batch draws, and so each process, jobs/training/shares.py derives from it.
    """
    torch.manual_seed(derived_seed("step", seed, 0, images))


def generator(device: torch.device, *parts: int | str) -> torch.Generator:
    """A generator of its own, seeded by `parts`: for draws that must not disturb, or depend on, the default ones."""
    return torch.Generator(device).manual_seed(derived_seed(*parts))


@contextlib.contextmanager
def seeded(device: torch.device, *parts: int | str) -> Iterator[None]:
    """While inside, the default generators draw what `parts` say; afterwards they go on as if nothing was drawn."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derived_seed(*parts))
        yield
