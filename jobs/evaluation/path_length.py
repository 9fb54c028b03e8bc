"""Perceptual path length (Karras et al. 2019, Section 4.1): how far pictures move for a small step of the latent.

    E[ d(G(u(t)), G(u(t + ε))) / ε² ],  t uniform in [0, 1], ε = 1e-4, d = LPIPS with VGG (already a squared distance)

u runs between two latents: along the sphere in z, straight in w. Noise inputs and labels are the same for both
pictures of a pair; everything is in float32, where a step of 1e-4 is still seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.evaluation.intervals import bootstrap_mean
from jobs.evaluation.pictures import LPIPS_RESIZE, for_lpips, to_rgb
from jobs.evaluation.rows import MetricRow
from jobs.spec.evaluation import Evaluation, MetricName, PathSpace

Distance = Callable[[Tensor, Tensor], Tensor]
"""LPIPS of pairs of images in [-1, 1]"""

EPSILON = 1e-4


@dataclass(frozen=True)
class Latent:
    """The inside of a generator with latents, in float32 on `device`."""

    size: int
    """Length of z."""
    device: torch.device
    to_w: Callable[[Tensor, int], Tensor]
    """(z [N, size], seed of the labels) -> w [N, ...]"""
    synthesise: Callable[[Tensor, int], Tensor]
    """(w, seed of the noise) -> images [N, C, H, W] in [-1, 1]; one seed always gives the same noise."""


def rows(latent: Latent, lpips: Distance, section: Evaluation, images: int, label: str) -> list[MetricRow]:
    """A row for `ppl_z` and `ppl_w` where the section asks for them; `lpips` is that of VGG."""
    spaces: tuple[tuple[MetricName, PathSpace], ...] = (("ppl_z", "z"), ("ppl_w", "w"))
    made = []
    for metric, space in spaces:
        if metric in section.metrics:
            lengths = path_lengths(latent, lpips, space, section.samples, section.batch, section.seed)
            low, high = bootstrap_mean(lengths, section.seed) if section.intervals else (None, None)
            row = MetricRow(
                metric=metric,
                features="lpips_vgg",
                value=float(lengths.mean()),
                images=images,
                samples=section.samples,
                interval_low=low,
                interval_high=high,
                interval_kind="95 %, bootstrap over paths" if section.intervals else None,
                resize=LPIPS_RESIZE,
                seed=section.seed,
                note="t uniform in [0, 1], ε = 1e-4, lowest and highest 1 % of paths left out",
                label=label,
            )
            made.append(row)
    return made


def path_lengths(latent: Latent, lpips: Distance, space: PathSpace, pairs: int, batch: int, seed: int) -> np.ndarray:
    """Path length of `pairs` random paths, [pairs], those below the 1st and above the 99th percentile left out."""
    lengths = torch.cat(list(_batches(latent, lpips, space, pairs, batch, seed))).cpu().double().numpy()
    low, high = np.percentile(lengths, 1, method="lower"), np.percentile(lengths, 99, method="higher")
    return lengths[(lengths >= low) & (lengths <= high)]


def _batches(latent: Latent, lpips: Distance, space: PathSpace, pairs: int, batch: int, seed: int) -> Iterator[Tensor]:
    for number, start in enumerate(range(0, pairs, batch)):
        count = min(batch, pairs - start)
        draw = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        rng = np.random.RandomState(draw)
        ends = torch.from_numpy(rng.standard_normal((2, count, latent.size)).astype(np.float32)).to(latent.device)
        t_N = torch.from_numpy(rng.random_sample(count).astype(np.float32)).to(latent.device)
        with torch.inference_mode():
            w_first, w_second = (_at(latent, space, ends, t, draw) for t in (t_N, t_N + EPSILON))
            images = [latent.synthesise(w, draw) for w in (w_first, w_second)]
            first, second = (for_lpips(to_rgb((image.float() + 1) * 127.5)) for image in images)
            yield lpips(first, second) / EPSILON**2


def _at(latent: Latent, space: PathSpace, ends_2ND: Tensor, t_N: Tensor, seed: int) -> Tensor:
    """w at `t` between the two ends."""
    if space == "z":
        return latent.to_w(slerp(ends_2ND[0], ends_2ND[1], t_N), seed)
    first, second = (latent.to_w(z_ND, seed) for z_ND in ends_2ND)
    return torch.lerp(first, second, t_N.to(first.dtype).view(-1, *[1] * (first.ndim - 1)))


def slerp(first_ND: Tensor, second_ND: Tensor, t_N: Tensor) -> Tensor:
    """Points between two directions, along the sphere of radius √D where Gaussian latents lie (Shoemake 1985)."""
    first_ND, second_ND = (x / x.norm(dim=1, keepdim=True) for x in (first_ND, second_ND))
    cosine_N1 = (first_ND * second_ND).sum(1, keepdim=True)
    angle_N1 = t_N[:, None] * cosine_N1.clamp(-1, 1).acos()
    across_ND = second_ND - cosine_N1 * first_ND
    across_ND = across_ND / across_ND.norm(dim=1, keepdim=True)
    return (first_ND * angle_N1.cos() + across_ND * angle_N1.sin()) * first_ND.shape[1] ** 0.5
