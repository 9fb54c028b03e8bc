"""Image translation between two domains A and B: unpaired (CycleGAN, Zhu et al. 2017) or paired (Isola et al. 2017).

An iteration, unpaired: both generators together fool the discriminators, bring images back to where they came from,
and leave alone what is of their domain already; then each discriminator tells real images from generated ones, older
ones of the pool among them. Paired: one generator, near the truth, fools a discriminator that sees input and output.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from jobs.data import PairBatch
from jobs.errors import DataError
from jobs.losses.adversarial import CRITIC, HINGE, LOGISTIC, SQUARES, Adversarial
from jobs.losses.penalties import r1, unit_gradient
from jobs.losses.reconstruction import l1, premultiplied
from jobs.losses.slopes import slope
from jobs.networks.layer_list import LayerNetwork
from jobs.spec import decay
from jobs.spec import translation as spec
from jobs.spec.job import Job
from jobs.spec.pairs import channel_count
from jobs.training.ema import ema_beta, frozen_copy, update_ema
from jobs.training.optimizer import sanitise_gradients, set_rates
from jobs.training.probe import Judged, Logits
from jobs.training.recipe import Known, Stateful
from jobs.training.seeds import derived_seed
from jobs.training.team import ALONE

SAMPLE_CHUNK = 32
"""Images translated at a time when sampling."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FP16_LOSS_SCALE = 1024.0
"""Keeps small gradients of float16 activations from vanishing; weights and their gradients are float32."""
LOSSES: dict[spec.AdversarialName, Adversarial] = {
    "gan": LOGISTIC, "dragan": LOGISTIC, "lsgan": SQUARES, "hinge": HINGE, "wgan": CRITIC, "wgan-gp": CRITIC,
}  # fmt: skip


class Translation:
    """The recipe. `G_AB` makes images of B from images of A; `D_B` judges them. A paired one has only these two."""

    def __init__(self, job: Job, known: Known, precision: str, device: torch.device) -> None:
        section = job.recipe
        assert isinstance(section, spec.Translation)
        assert job.training.batch is not None and job.training.micro_batch is not None, "a resolved spec"
        self.section, self.device, self.known, self.team = section, device, known, ALONE
        self.batch, self.micro_batch = job.training.batch, job.training.micro_batch
        self.ways = ("AB",) if section.paired else ("AB", "BA")

        torch.manual_seed(derived_seed("weights", job.seed))
        channels, side = channel_count(section.data), section.data.resolution
        dtype = DTYPES[precision]
        self.G = nn.ModuleDict({way: LayerNetwork(section.generator, channels, side, dtype) for way in self.ways})
        self.G.to(device)
        seen = 2 * channels if section.paired else channels
        judged = () if section.loss.adversarial == "none" else self.ways
        self.D = nn.ModuleDict({way: LayerNetwork(section.discriminator, seen, side, dtype) for way in judged})
        self.D.to(device)
        self.G_ema = frozen_copy(self.G)
        size = 0 if section.paired else section.pool
        self.pools = {way: ImagePool(size, (channels, side, side), device) for way in judged}

        self.loss_scale = FP16_LOSS_SCALE if precision == "fp16" else 1.0
        self.penalty = section.loss.penalty if section.loss.adversarial in ("wgan-gp", "dragan") else 0.0
        self.rate_factor = 1.0
        rate = section.optimizer.learning_rate
        self.learning_rates = {"G": rate, "D": rate * section.optimizer.discriminator_factor}
        self._optimizers = {
            name: Adam(
                list(network.parameters()), lr=self.learning_rates[name], betas=section.optimizer.betas, fused=True
            )
            for name, network in (("G", self.G), ("D", self.D))
            if len(network)
        }

    @property
    def parts(self) -> Mapping[str, Stateful]:
        pools = {f"pool_{way}": pool for way, pool in self.pools.items()}
        optimizers = {f"{name}_optimizer": optimizer for name, optimizer in self._optimizers.items()}
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema, **optimizers, **pools}

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        generators = {f"G_{way}": network for way, network in self.G.items()}
        return {**generators, **{f"D_{way[1]}": network for way, network in self.D.items()}}

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        return self._optimizers

    @property
    def generator_ema(self) -> nn.Module:
        return self.G_ema

    def step(self, batch: PairBatch, images: int) -> dict[str, Tensor]:
        """One iteration on uint8 images [N, C, S, S] of both domains."""
        self._set_learning_rates(images)
        real = self._signed(batch)
        if (images // self.batch) % self.section.critic_steps == 0:
            scalars, fakes = self._translate(real)
        else:
            scalars, fakes = {}, self._only_translated(real)
        if len(self.D):
            scalars |= self._tell_apart(real, fakes)
        update_ema(self.G_ema, self.G, self._ema_beta(images))
        return scalars

    def _translate(self, real: "Images") -> "tuple[dict[str, Tensor], Images]":
        """The generators: fool, come back, leave alone; paired, come near the truth. Returns what they made, too."""
        self._learns(self.G, self.D)
        made: dict[str, list[Tensor]] = {way: [] for way in self.ways}
        totals: dict[str, Tensor] = {}
        for share in self._micro_batches(real):
            fakes = {way: self.G[way](share[way[0]]) for way in self.ways}
            terms = self._terms(share, fakes)
            parts = len(real["A"]) // len(share["A"])
            weighted = sum((value * weight for value, weight in terms.values()), torch.zeros((), device=self.device))
            (weighted * (self.loss_scale / parts)).backward()
            for name, (value, _) in terms.items():
                totals[name] = totals.get(name, 0) + value.detach() / parts
            for way, fake in fakes.items():
                made[way].append(fake.detach())
        totals["gradient.generator"] = self._descend("G")
        return totals, {way[1]: torch.cat(fakes) for way, fakes in made.items()}

    def _terms(self, real: "Images", fakes: "Images") -> "dict[str, tuple[Tensor, float]]":
        """Every term of the generators' loss by the name of its scalar, with its weight."""
        weights = self.section.loss
        terms: dict[str, tuple[Tensor, float]] = {}
        for way in self.ways:
            here, there = way[0], way[1]
            if way in self.D:
                terms[f"loss.generator_{way}"] = self._losses.fool(self._judge(way, real[here], fakes[way])), 1.0
            if self.section.paired:
                terms["loss.pairs"] = l1(self._seen(fakes[way]), self._seen(real[there])), weights.pairs
                continue
            if weights.cycle:
                back = self.G[way[::-1]](fakes[way])
                terms[f"loss.cycle_{here}"] = l1(self._seen(back), self._seen(real[here])), weights.cycle
            if weights.identity:
                same = self.G[way](real[there])
                terms[f"loss.identity_{there}"] = l1(self._seen(same), self._seen(real[there])), weights.identity
        return terms

    @torch.no_grad()
    def _only_translated(self, real: "Images") -> "Images":
        """What the generators make, while only the discriminators learn."""
        made: dict[str, list[Tensor]] = {way: [] for way in self.ways}
        for share in self._micro_batches(real):
            for way in self.ways:
                made[way].append(self.G[way](share[way[0]]))
        return {way[1]: torch.cat(fakes) for way, fakes in made.items()}

    def _tell_apart(self, real: "Images", fakes: "Images") -> dict[str, Tensor]:
        """The discriminators: real up, generated down. Their losses are halved (Zhu et al. 2017, appendix)."""
        self._learns(self.D, self.G)
        scalars: dict[str, Tensor] = {}
        for way in self.D:
            domain = way[1]
            shown = {"A": real["A"], "B": real["B"], "fake": self._exchange(way, fakes[domain])}
            if self.penalty:
                shown["at"] = self._between(real[domain], shown["fake"])
            scalars |= self._judge_share(way, shown)
        scalars["gradient.discriminator"] = self._descend("D")
        if self.section.loss.adversarial == "wgan":
            with torch.no_grad():
                torch._foreach_clamp_min_(list(self.D.parameters()), -self.section.loss.clip)
                torch._foreach_clamp_max_(list(self.D.parameters()), self.section.loss.clip)
        return scalars

    def _exchange(self, way: str, fake: Tensor) -> Tensor:
        """What the discriminator sees in place of `fake`; the pool is that of the whole batch."""
        pool = self.pools[way]
        return self.team.own(pool.exchange(self.team.gather(fake))) if len(pool.images) else fake

    def _judge_share(self, way: str, shown: "Images") -> dict[str, Tensor]:
        """Adds the gradients of one discriminator; its loss, and what it thought."""
        here, there = way[0], way[1]
        totals = torch.zeros(6, device=self.device)
        for share in self._micro_batches(shown):
            on_real = self._judge(way, share[here], share[there])
            on_fake = self._judge(way, share[here], share["fake"])
            loss = self._losses.real(on_real) + self._losses.fake(on_fake)
            penalty = self._penalty(way, share) if self.penalty else torch.zeros((), device=self.device)
            parts = len(shown["A"]) // len(share["A"])
            ((loss / 2 + penalty * self.penalty) * (self.loss_scale / parts)).backward()
            thoughts = [
                part for logit in (on_real.detach(), on_fake.detach()) for part in (logit.mean(), logit.sign().mean())
            ]
            totals += torch.stack([loss.detach(), penalty.detach(), *thoughts]) / parts
        loss, penalty, *thoughts = totals.unbind()
        names = ("logit.real", "sign.real", "logit.fake", "sign.fake")
        scalars = {f"{name}_{there}": value for name, value in zip(names, thoughts, strict=True)}
        scalars[f"loss.discriminator_{there}"] = loss
        return scalars | ({f"loss.penalty_{there}": penalty * self.penalty} if self.penalty else {})

    def _penalty(self, way: str, share: "Images") -> Tensor:
        return unit_gradient(
            slope(lambda image: self._judge(way, share[way[0]], image, full_precision=True), share["at"])
        )

    def _between(self, real: Tensor, fake: Tensor) -> Tensor:
        """Where the gradient is to have norm 1: on lines between real and generated images, or around real ones.

        Drawn for the whole batch, so that it does not depend on how that is cut.
        """
        whole = self.team.gather(real)
        place = self.team.own(torch.rand(len(whole), 1, 1, 1, device=self.device))
        if self.section.loss.adversarial == "wgan-gp":
            return real + place * (fake - real)
        noise = self.team.own(torch.rand_like(whole))  # DRAGAN (Kodali et al. 2017), Algorithm 1: x + α · σ(x)/2 · u
        return real + place * 0.5 * whole.std() * noise

    def _judge(self, way: str, source: Tensor, image: Tensor, *, full_precision: bool = False) -> Tensor:
        """Logits of one discriminator, for patches [N, 1, H, W]; a paired one sees the source, too."""
        seen = self._seen(image)
        if self.section.paired:
            seen = torch.cat([self._seen(source), seen], dim=1)
        return self.D[way](seen, full_precision=full_precision)

    def _seen(self, image: Tensor) -> Tensor:
        return premultiplied(image) if self.section.alpha == "premultiplied" else image

    @property
    def _losses(self) -> Adversarial:
        return LOSSES[self.section.loss.adversarial]

    def _signed(self, batch: PairBatch) -> "Images":
        """A batch on the device: images in [-1, 1] by domain."""
        domains = {"A": batch.a_NCHW, "B": batch.b_NCHW}
        return {name: image.to(self.device, non_blocking=True).float() / 127.5 - 1 for name, image in domains.items()}

    def _micro_batches(self, images: "Images") -> "Iterator[Images]":
        for start in range(0, len(images["A"]), self.micro_batch):
            yield {name: image[start : start + self.micro_batch] for name, image in images.items()}

    def _learns(self, learner: nn.Module, other: nn.Module) -> None:
        """Only `learner` gets gradients: none are computed to be thrown away."""
        learner.requires_grad_(True)
        other.requires_grad_(False)

    def _descend(self, name: str) -> Tensor:
        """One step of an optimizer with the gradients at hand; returns their norm."""
        optimizer = self._optimizers[name]
        self.team.average_gradients(self.G if name == "G" else self.D)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.loss_scale != 1:
            torch._foreach_div_(gradients, self.loss_scale)
            sanitise_gradients(parameters)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _set_learning_rates(self, images: int) -> None:
        factor = decay.factor(self.section.optimizer.decay, images) * self.rate_factor
        set_rates(self._optimizers, self.learning_rates, factor)

    def _ema_beta(self, images: int) -> float:
        half_life = self.section.ema_half_life_images
        return ema_beta(self.batch, images, half_life, 0.05) if half_life else 0.0

    def sample(self, count: int, seed: int) -> Tensor:
        """Images of B, translated from inputs that the data gives for `seed`."""
        if self.known.conditions is None:
            raise DataError(
                "a translation draws from images, not from latents, and there are none at hand",
                hint="gankiln translate CHECKPOINT IMAGES --out DIR",
            )
        return self.translate(self.known.conditions(count, seed))

    show = sample

    @torch.no_grad()
    def translate(self, image_NCHW: Tensor, way: str = "AB") -> Tensor:
        """uint8 images, or images in [-1, 1], of one domain -> images [N, C, S, S] of the other in [-1, 1]."""
        drawn = []
        for chunk in image_NCHW.split(SAMPLE_CHUNK):
            image = chunk.to(self.device)
            image = image if image.is_floating_point() else image.float() / 127.5 - 1
            drawn.append(self.G_ema[way](image).clamp(-1, 1))
        return torch.cat(drawn)

    @property
    def judges(self) -> Mapping[str, Judged]:
        """The discriminators, each with what may be asked of it."""
        return {f"discriminator_{way[1]}": _Judge(self, way) for way in self.D}

    def adjust(self, *, learning_rate_factor: float, r1_gamma_factor: float) -> None:
        """Learning rates and the penalty: the spec's, times these factors."""
        self.rate_factor = learning_rate_factor
        if self.section.loss.adversarial in ("wgan-gp", "dragan"):
            self.penalty = self.section.loss.penalty * r1_gamma_factor

    def effective(self, images: int) -> dict[str, Any]:
        """What is in force at `images`."""
        weights, falls = self.section.loss, decay.sentence(self.section.optimizer.decay, images)
        used = (
            {"pairs": weights.pairs} if self.section.paired else {"cycle": weights.cycle, "identity": weights.identity}
        )
        return {
            **{f"learning_rate.{name}": opt.param_groups[0]["lr"] for name, opt in self._optimizers.items()},
            "learning_rate.decay": falls,
            "betas": list(self.section.optimizer.betas),
            "loss.adversarial": self.section.loss.adversarial,
            **{f"loss.{name}": weight for name, weight in used.items()},
            **({"loss.penalty": self.penalty} if self.penalty else {}),
            "norm.generator": self.section.generator.norm,
            "norm.discriminator": self.section.discriminator.norm,
            "pool": 0 if self.section.paired else self.section.pool,
            "ema.beta": self._ema_beta(images),
        }


Images = dict[str, Tensor]
"""Images [N, C, S, S] in [-1, 1] by domain."""


class _Judge:
    """One discriminator of a translation, for those who examine it."""

    def __init__(self, recipe: Translation, way: str) -> None:
        self.recipe, self.way = recipe, way

    def judge(self, batch: PairBatch, _seed: int) -> Logits:
        """On the real images of its domain in `batch`, and on translations into it; means over patches, [N, 1]."""
        real = self.recipe._signed(batch)
        here, there = self.way[0], self.way[1]
        with torch.no_grad():
            fake = self.recipe.G[self.way](real[here])
        logits = (self.recipe._judge(self.way, real[here], image) for image in (real[there], fake))
        return Logits(*(logit.mean(dim=(2, 3)) for logit in logits))

    def judgement_loss(self, logits: Logits) -> Tensor:
        return self.recipe._losses.real(logits.real_N) + self.recipe._losses.fake(logits.fake_M)

    def judge_gradient(self, batch: PairBatch) -> Tensor:
        """‖∇D(real)‖², mean over images."""
        real = self.recipe._signed(batch)
        here, there = self.way[0], self.way[1]
        return r1(
            slope(lambda image: self.recipe._judge(self.way, real[here], image, full_precision=True), real[there])
        ).detach()


class ImagePool:
    """Generated images of earlier iterations (Shrivastava et al. 2017): half of the time an older one is shown."""

    def __init__(self, size: int, chw: Sequence[int], device: torch.device) -> None:
        self.images = torch.zeros(size, *chw, device=device)
        self.filled = 0

    def exchange(self, fake_NCHW: Tensor) -> Tensor:
        """What the discriminator sees in place of `fake_NCHW`; image after image, whatever the micro-batch."""
        size = len(self.images)
        if size == 0:
            return fake_NCHW
        draws = torch.rand(len(fake_NCHW), 2).tolist()
        shown = fake_NCHW.clone()
        for index, (swap, place) in enumerate(draws):
            if self.filled < size:
                self.images[self.filled] = fake_NCHW[index]
                self.filled += 1
            elif swap < 0.5:
                slot = int(place * size)
                shown[index] = self.images[slot]
                self.images[slot] = fake_NCHW[index]
        return shown

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"images": self.images, "filled": self.filled}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Takes over what `state_dict` gave."""
        self.images.copy_(state["images"])
        self.filled = int(state["filled"])
