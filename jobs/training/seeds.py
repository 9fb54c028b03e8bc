"""Randomness as a function of place: every draw follows from (seed, rank, images), never from what ran before.

That is what makes a stopped and resumed run equal to an unbroken one: nothing about generators has to be saved.
"""

import hashlib

import torch


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from `parts`; nearby parts give unrelated seeds."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_step(seed: int, rank: int, images: int) -> None:
    """Seeds torch's default generators, of the CPU and of every GPU, for the step at `images`."""
    torch.manual_seed(derived_seed("step", seed, rank, images))


def generator(device: torch.device, *parts: int | str) -> torch.Generator:
    """A generator of its own, seeded by `parts`: for draws that must not disturb, or depend on, the default ones."""
    return torch.Generator(device).manual_seed(derived_seed(*parts))
