"""NVIDIA's StyleGAN2-ADA networks as its `auto` configures them, trained by its phases and optimizers, on a CPU.

The PyPI package draggan carries them (`pip install --no-deps draggan requests click`). It brings the modules of the
original repository, which import one another from its root, and a loss that does not fit its operators; so the phases,
whose time is that of the networks, are told here, with the losses of this repository.
"""

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from unittest import mock

import torch
from torch import Tensor, nn

from jobs.losses.adversarial import logistic_fake, logistic_fool, logistic_real
from jobs.losses.penalties import on_noise, path_lengths, r1
from jobs.training.optimizer import sanitise_gradients

SIZE = 512
"""Of z and w."""
PATHS_EVERY, R1_EVERY = 4, 16
LEARNING_RATE = 0.0025


def networks() -> ModuleType | None:
    """The module of the networks; None where the package is not installed."""
    package = importlib.util.find_spec("draggan")
    if package is None or not package.submodule_search_locations:
        return None
    with mock.patch.object(sys, "path", [f"{package.submodule_search_locations[0]}/stylegan2", *sys.path]):
        return importlib.import_module("training.networks")


class Training:
    """Both networks, the average, both optimizers, and random images for real ones."""

    def __init__(self, networks: ModuleType, resolution: int, batch: int) -> None:
        images = {"c_dim": 0, "img_resolution": resolution, "img_channels": 3}
        widths = {"channel_base": 16384, "channel_max": 512, "num_fp16_res": 0, "conv_clamp": 256}
        mapping = {"num_layers": 2}
        self.G = networks.Generator(z_dim=SIZE, w_dim=SIZE, mapping_kwargs=mapping, synthesis_kwargs=widths, **images)
        self.D = networks.Discriminator(epilogue_kwargs={"mbstd_group_size": min(batch, 4)}, **widths, **images)
        self.average = copy.deepcopy(self.G).requires_grad_(False)
        self.G_optimizer, self.D_optimizer = lazy_adam(self.G, PATHS_EVERY), lazy_adam(self.D, R1_EVERY)
        self.real = torch.rand(batch, 3, resolution, resolution) * 2 - 1
        self.batch = batch
        self.r1_gamma = 0.0002 * resolution**2 / batch
        self.mean_length = torch.zeros([])

    def iteration(self, number: int) -> None:
        self._step(self.G, self.G_optimizer, self._fool)
        if number % PATHS_EVERY == 0:
            self._step(self.G, self.G_optimizer, self._even_out_paths)
        self._step(self.D, self.D_optimizer, self._tell_apart)
        if number % R1_EVERY == 0:
            self._step(self.D, self.D_optimizer, self._penalise_gradient)
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.G.parameters(), strict=True):
                kept.copy_(new.lerp(kept, 0.99))

    def _step(self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
        self.G.requires_grad_(network is self.G)
        self.D.requires_grad_(network is self.D)
        optimizer.zero_grad(set_to_none=True)
        loss().backward()  # type: ignore[no-untyped-call]
        sanitise_gradients(network.parameters())
        optimizer.step()

    def _styles(self, count: int) -> Tensor:
        """w [N, layers, D], mixed from two in nine of ten batches."""
        w: Tensor = self.G.mapping(torch.randn(count, SIZE), None)
        if torch.rand([]) < 0.9:
            cut = int(torch.randint(1, w.shape[1], []))
            w = torch.cat([w[:, :cut], self.G.mapping(torch.randn(count, SIZE), None)[:, cut:]], dim=1)
        return w

    def _fake(self) -> Tensor:
        image: Tensor = self.G.synthesis(self._styles(self.batch))
        return image

    def _fool(self) -> Tensor:
        return logistic_fool(self.D(self._fake(), None))

    def _even_out_paths(self) -> Tensor:
        w = self._styles(self.batch // 2)
        (slope,) = torch.autograd.grad(on_noise(self.G.synthesis(w)).sum(), w, create_graph=True)
        length = path_lengths(slope)
        mean = self.mean_length.lerp(length.mean(), 0.01)
        self.mean_length.copy_(mean.detach())
        return (length - mean).square().mean() * (2.0 * PATHS_EVERY)

    def _tell_apart(self) -> Tensor:
        return logistic_fake(self.D(self._fake(), None)) + logistic_real(self.D(self.real, None))

    def _penalise_gradient(self) -> Tensor:
        real = self.real.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.D(real, None).sum(), real, create_graph=True)
        return r1(slope) * (self.r1_gamma / 2 * R1_EVERY)


def lazy_adam(network: nn.Module, interval: int) -> torch.optim.Adam:
    """Steps and moments shortened for the iterations that a penalty adds (Karras et al. 2020, appendix B)."""
    lazy = interval / (interval + 1)
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE * lazy, betas=(0.0, 0.99**lazy), eps=1e-8)
