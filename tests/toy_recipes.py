"""A GAN of a few numbers that can be wired wrongly in every way that the wiring check knows."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from jobs.training.ema import frozen_copy
from jobs.training.probe import Logits


class Batch(NamedTuple):
    image_NCHW: Tensor
    label_N: None = None


class Gen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3 * 8 * 8)
        self.body = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(self.dense(z).reshape(-1, 3, 8, 8).tanh())


class Dis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.leaky_relu(self.body(x), 0.2).mean((2, 3)))


class Toy:
    """Correct as it stands; tests change one thing each."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.G, self.D = Gen(), Dis()
        self.G_ema = frozen_copy(self.G)
        self.make_optimizers()

    def make_optimizers(self) -> None:
        self.G_optimizer = Adam(self.G.parameters(), lr=0.01)
        self.D_optimizer = Adam(self.D.parameters(), lr=0.01)

    @property
    def parts(self) -> dict[str, Any]:
        return {"G": self.G, "D": self.D}

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D}

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        return {"G": self.G_optimizer, "D": self.D_optimizer}

    @property
    def generator_ema(self) -> nn.Module:
        return self.G_ema

    def step(self, batch: Batch, images: int) -> dict[str, Tensor]:
        self.freeze(self.D)
        g = F.softplus(-self.D(self.fakes(batch))).mean()
        g.backward()
        self.G_optimizer.step()
        self.G_optimizer.zero_grad()
        self.thaw(self.D)
        return {"loss.generator": g.detach(), "loss.discriminator": self.learn_to_judge(batch)}

    def learn_to_judge(self, batch: Batch) -> Tensor:
        d = self.judgement_loss(Logits(self.D(batch.image_NCHW), self.D(self.fakes(batch).detach())))
        d.backward()
        self.D_optimizer.step()
        self.D_optimizer.zero_grad()
        return d.detach()

    def freeze(self, network: nn.Module) -> None:
        network.requires_grad_(False)

    def thaw(self, network: nn.Module) -> None:
        network.requires_grad_(True)

    def fakes(self, batch: Batch) -> Tensor:
        return self.G(torch.randn(len(batch.image_NCHW), 4))

    def judge(self, batch: Batch, seed: int) -> Logits:
        torch.manual_seed(seed)
        fake = self.fakes(batch).detach()
        return Logits(self.D(batch.image_NCHW), self.D(fake))

    def judgement_loss(self, logits: Logits) -> Tensor:
        return F.softplus(-logits.real_N).mean() + F.softplus(logits.fake_M).mean()

    def judge_gradient(self, batch: Batch) -> Tensor:
        return torch.zeros(())

    def sample(self, count: int, seed: int) -> Tensor:
        return self.G_ema(torch.randn(count, 4))

    show = sample

    def effective(self, images: int) -> dict[str, Any]:
        return {}


BATCH = Batch(torch.linspace(-1, 1, 4 * 3 * 64).reshape(4, 3, 8, 8))
