"""Sketches that grow: a StyleGAN1 (Karras et al. 2019), grown as in Karras et al. 2018, that continues drawings part by
part as DoodlerGAN does (Ge et al. 2021).

An iteration: the discriminator tells drawings with their real next part from those with a generated one; the generator
fools it; the averaged generator follows. Resolution doubles, and new layers fade in, by the timetable of the spec.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from jobs.data.sketches import SketchBatch
from jobs.losses.critic import critic_loss, relabelled
from jobs.losses.penalties import r1, unit_gradient
from jobs.losses.slopes import slope
from jobs.networks.growing import GrowingDiscriminator, GrowingGenerator, PartSelector, doubled, faded, shrunk
from jobs.spec import sketch as spec
from jobs.spec.growth import Moment, NoGrowth, timetable
from jobs.spec.job import Job
from jobs.spec.sketch_size import BEGINNINGS
from jobs.training.ema import ema_beta, frozen_copy, update_ema
from jobs.training.optimizer import descend, set_rates
from jobs.training.probe import Logits
from jobs.training.recipe import Known, Stateful
from jobs.training.seeds import derived_seed, generator, seeded
from jobs.training.shares import Shares
from jobs.training.team import ALONE

SAMPLE_CHUNK = 32
"""Pictures drawn at a time; part of what a seed means, so it never depends on memory."""
GREY = 0.35
"""Ink of the drawing so far, where people look at its continuation."""
CHANGE_ITERATIONS, CHANGE_PICTURES = 100, 8
"""How often, and on how many fixed beginnings, it is measured how much the generator changes."""


class Drawer(nn.Module):
    """What draws: the generator of one part, and perhaps the selector of the next one."""

    beginnings: Tensor

    def __init__(self, generator: GrowingGenerator, selector: PartSelector | None, beginnings_MPHW: Tensor) -> None:
        super().__init__()
        self.generator, self.selector = generator, selector
        self.register_buffer("beginnings", beginnings_MPHW)

    def forward(self, given_NPHW: Tensor, z_ND: Tensor) -> Tensor:
        """Parts drawn so far, ink in [0, 1] -> ink of the next part [N, 1, R, R] at full size, as last trained."""
        return self.draw(given_NPHW, z_ND, int(self.generator.level), float(self.generator.alpha))

    def draw(self, given_NPHW: Tensor, z_ND: Tensor, level: int, alpha: float) -> Tensor:
        """The same at a level that the caller knows: on a GPU, reading the generator's own would make the host wait."""
        ink = self.generator(with_whole(given_NPHW), z_ND, level, alpha).clamp(0, 1)
        while ink.shape[2] < given_NPHW.shape[2]:
            ink = doubled(ink)
        return ink


class Share(NamedTuple):
    """A micro-batch on the device, ink in [0, 1]."""

    part_N1SS: Tensor
    """The real part, as the resolution in training sees it."""
    given_NPSS: Tensor
    """The drawing so far with all of it in one as last channel, likewise."""
    drawing_NPRR: Tensor
    """The same at the resolution of the data."""


class Labels(NamedTuple):
    """By how much each image counts as what it is."""

    real_N1: Tensor
    fake_N1: Tensor


class Sketch:
    """The recipe: generator, discriminator and selector, an optimizer each, and the order in which they are updated."""

    def __init__(self, job: Job, known: Known, precision: str, device: torch.device) -> None:
        section = job.recipe
        assert isinstance(section, spec.Sketch)
        assert job.training.batch is not None and job.training.micro_batch is not None, "a resolved spec"
        self.section, self.known, self.device, self.team = section, known, device, ALONE
        self.batch, self.micro_batch = job.training.batch, job.training.micro_batch
        data = section.data
        self.resolution, self.parts_count = data.resolution, len(data.part_names)
        self.part = data.part_names.index(data.part)
        self.timetable = timetable(section.growth, self.resolution, self.batch)
        self.critic = critic_loss(section.loss.adversarial)

        torch.manual_seed(derived_seed("weights", job.seed))
        start = self.timetable.start_level
        sections = (section.encoder, section.latent, section.generator)
        self.G = GrowingGenerator(sections, self.resolution, self.parts_count + 1, start, section.wiring)
        self.D = GrowingDiscriminator(
            section.discriminator, self.resolution, self.parts_count + 1, start, section.wiring
        ).to(device)
        self.drawer = Drawer(self.G, self._selector(), self._beginnings(job.seed)).to(device)
        self.drawer_ema = frozen_copy(self.drawer)
        self.changing = _Changing(self.resolution).to(device)

        adam = section.optimizer
        self.G_optimizer = _adam(self.G, adam.generator_rate, adam)
        self.D_optimizer = _adam(self.D, adam.discriminator_rate, adam)
        self.S_optimizer = (
            None if section.selector is None else _adam(self.drawer.selector, section.selector.learning_rate, adam)
        )
        self.r1_gamma = section.loss.r1.gamma
        self.learning_rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()}

    def _selector(self) -> PartSelector | None:
        section = self.section.selector
        if section is None:
            return None
        return PartSelector(
            section.channels, section.channels_max, self.resolution, self.parts_count + 1, self.parts_count
        )

    def _beginnings(self, seed: int) -> Tensor:
        if self.known.conditions is None:
            return torch.zeros(BEGINNINGS, self.parts_count, self.resolution, self.resolution, dtype=torch.uint8)
        beginnings: Tensor = self.known.conditions(BEGINNINGS, derived_seed("beginnings", seed)).given_NPHW
        return beginnings

    @property
    def parts(self) -> Mapping[str, Stateful]:
        return {
            "drawer": self.drawer,
            "D": self.D,
            "drawer_ema": self.drawer_ema,
            "changing": self.changing,
            **{f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()},
        }

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        selector = self.drawer.selector
        return {"G": self.G, "D": self.D, **({} if selector is None else {"selector": selector})}

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        owners: dict[str, Optimizer] = {"G": self.G_optimizer, "D": self.D_optimizer}
        return owners if self.S_optimizer is None else {**owners, "selector": self.S_optimizer}

    @property
    def generator_ema(self) -> nn.Module:
        return self.drawer_ema

    def step(self, batch: SketchBatch, images: int) -> dict[str, Tensor]:
        """One iteration on parts and the drawings that they continue."""
        moment = self.timetable.at(images)
        if self.timetable.grows(images) and self.section.optimizer.reset_on_growth:
            for optimizer in (self.G_optimizer, self.D_optimizer):
                optimizer.state.clear()
        self.G.level.fill_(moment.level)
        self.G.alpha.fill_(moment.alpha)
        shares = self.team.shares(list(self._shares(batch, moment)))
        scalars = self._conditions_of_training(images, moment)

        self._learns(self.D, self.G)
        for _ in range(self.section.discriminator_steps):
            scalars |= self._tell_apart(shares, images, moment)
        self._learns(self.G, self.D)
        for _ in range(self.section.generator_steps):
            scalars |= self._fool(shares, images, moment)
        if self.S_optimizer is not None:
            scalars |= self._select(batch, self.S_optimizer)

        self._learns(self.D, self.G)  # as whoever asks for its judgement expects
        update_ema(self.drawer_ema, self.drawer, self._ema_beta(images))
        return scalars | self._change(images // self.batch, moment)

    def _tell_apart(self, shares: Shares[Share], images: int, moment: Moment) -> dict[str, Tensor]:
        """Discriminator: drawings with their real part up, with a generated one down."""
        totals = torch.zeros(7, device=self.device)
        penalties: dict[str, Tensor] = {}
        for share in shares:
            with torch.no_grad():
                fake = self._seen(self._continue(share, moment), share, images, moment, real=False)
            real = self._seen(share.part_N1SS, share, images, moment, real=True)
            on_real, on_fake = self.D(torch.cat([real, fake]), moment.level, moment.alpha, sets=2).chunk(2)
            labels = self._labels(on_real, images, moment)
            loss = relabelled(self.critic, on_real, on_fake, labels.real_N1, labels.fake_N1)
            drift = self.section.loss.drift * on_real.square().mean()
            terms = self._penalties(real, fake, images, moment)
            total = loss + drift + sum(weight * value for weight, value in terms.values())
            (total / len(shares)).backward()
            judged = self._judgement(on_real.detach(), on_fake.detach())
            totals += torch.stack([loss.detach(), *judged]) / len(shares)
            for name, (weight, value) in terms.items():
                shown = weight * value.detach() / len(shares)
                penalties[name] = penalties[name] + shown if name in penalties else shown
        names = ("loss.discriminator", "logit.real", "logit.fake", "sign.real", "sign.fake", "accuracy", "margin")
        norm = self._descend(self.D, self.D_optimizer)
        return {**dict(zip(names, totals.unbind(), strict=True)), **penalties, "gradient.discriminator": norm}

    def _penalties(self, real: Tensor, fake: Tensor, images: int, moment: Moment) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of every penalty on the discriminator's gradient that is due."""

        def judge(image: Tensor) -> Tensor:
            return self.D(image, moment.level, moment.alpha)

        loss, iteration = self.section.loss, images // self.batch
        terms = {}
        if self.r1_gamma and iteration % loss.r1.interval == 0:
            terms["loss.r1"] = (self.r1_gamma / 2 * loss.r1.interval, r1(slope(judge, real)))
        penalty = loss.gradient_penalty
        if penalty.weight and iteration % penalty.interval == 0:
            where = real
            if penalty.at == "interpolates":
                where = torch.lerp(real, fake, torch.rand(len(real), 1, 1, 1, device=self.device))
            value = unit_gradient(slope(judge, where), penalty.target)
            terms["loss.gradient_penalty"] = (penalty.weight * penalty.interval, value)
        return terms

    def _fool(self, shares: Shares[Share], images: int, moment: Moment) -> dict[str, Tensor]:
        """Generator: drawings with its part should be taken for real."""
        loss, ink_loss = (torch.zeros((), device=self.device) for _ in range(2))
        for share in shares:
            part = self._continue(share, moment)
            seen = self._seen(part, share, images, moment, real=False)
            cost = self.critic.fool(self.D(seen, moment.level, moment.alpha)).mean() / len(shares)
            excess = part.sum((1, 2, 3)) - share.part_N1SS.sum((1, 2, 3))
            ink = self.section.loss.ink * excess.square().mean() / len(shares)
            (cost + ink).backward()
            loss += cost.detach()
            ink_loss += ink.detach()
        scalars = {"loss.generator": loss, "gradient.generator": self._descend(self.G, self.G_optimizer)}
        return {**scalars, "loss.ink": ink_loss} if self.section.loss.ink else scalars

    def _select(self, batch: SketchBatch, optimizer: Optimizer) -> dict[str, Tensor]:
        """Selector: which part did people draw next?"""
        selector = self.drawer.selector
        assert selector is not None
        begun = with_whole(self._ink(batch.begun_NPHW))
        following = batch.next_N.to(self.device, non_blocking=True)
        logits = selector(begun)
        loss = F.cross_entropy(logits, following)
        loss.backward()
        self._descend(selector, optimizer)
        right = (logits.detach().argmax(1) == following).float().mean()
        return {"loss.selector": loss.detach(), "selector.accuracy": right}

    def _continue(self, share: Share, moment: Moment) -> Tensor:
        """The generator's part for each drawing, from fresh latents."""
        z = torch.randn(len(share.drawing_NPRR), self.section.latent.size, device=self.device)
        return self.G(share.drawing_NPRR, z, moment.level, moment.alpha)

    def _seen(self, part_N1SS: Tensor, share: Share, images: int, moment: Moment, *, real: bool) -> Tensor:
        """What the discriminator sees: the parts so far, this one among them, and all in one; with instance noise."""
        seen = self._stacked(part_N1SS, share.given_NPSS)
        noise = self.section.instance_noise
        if noise.applies_to == "both" or (noise.applies_to == "real" and real):
            seen = seen + torch.randn_like(seen) * noise.deviation.at(images, moment, self.batch)
        return seen

    def _stacked(self, part: Tensor, given: Tensor) -> Tensor:
        whole = torch.maximum(part, given[:, -1:])
        return torch.cat([given[:, : self.part], part, given[:, self.part + 1 : -1], whole], dim=1)

    def _labels(self, logit_N1: Tensor, images: int, moment: Moment) -> Labels:
        """Labels with the noise of this moment."""
        sure = torch.ones_like(logit_N1)
        noise = self.section.label_noise
        amount = noise.amount.at(images, moment, self.batch) if noise.kind != "none" else 0.0
        match noise.kind:
            case "none":
                return Labels(sure, sure)
            case "smooth":
                return Labels(sure - amount, sure)
            case "flip_real":
                return Labels((torch.rand_like(sure) >= amount).float(), sure)
            case "swap_all":
                kept = (torch.rand(1, 1, device=self.device) >= amount).float() * sure
                return Labels(kept, kept)

    def _judgement(self, on_real: Tensor, on_fake: Tensor) -> list[Tensor]:
        """Mean logits and signs, the share judged rightly, and the margin. A Wasserstein critic has no zero: there the
        middle between both means parts real from generated."""
        middle = (on_real.mean() + on_fake.mean()) / 2 if self.section.loss.adversarial == "wgan" else 0.0
        right = ((on_real > middle).float().mean() + (on_fake < middle).float().mean()) / 2
        means, signs = (on_real.mean(), on_fake.mean()), (on_real.sign().mean(), on_fake.sign().mean())
        return [*means, *signs, right, means[0] - means[1]]

    def _shares(self, batch: SketchBatch, moment: Moment) -> Iterator[Share]:
        """Micro-batches, real parts and drawings faded as the pictures of a growing generator are."""
        for start in range(0, len(batch.part_N1HW), self.micro_batch):
            chunk = slice(start, start + self.micro_batch)
            drawing = with_whole(self._ink(batch.given_NPHW[chunk]))
            part = self._ink(batch.part_N1HW[chunk])
            part, given = (faded(shrunk(x, moment.resolution), moment.alpha) for x in (part, drawing))
            yield Share(part, given, drawing)

    def _ink(self, raster: Tensor) -> Tensor:
        return raster.to(self.device, non_blocking=True).float() / 255

    def _learns(self, learner: nn.Module, other: nn.Module) -> None:
        """Only `learner` gets gradients: none are computed to be thrown away."""
        learner.requires_grad_(True)
        other.requires_grad_(False)

    def _descend(self, network: nn.Module, optimizer: Optimizer) -> Tensor:
        """One optimizer step with the gradients at hand; returns their norm."""
        return descend(network, optimizer, self.team)

    def _ema_beta(self, images: int) -> float:
        ema = self.section.ema
        assert ema.half_life_images is not None and ema.ramp is not None, "a resolved spec"
        return ema_beta(self.batch, images, ema.half_life_images, ema.ramp)

    def _conditions_of_training(self, images: int, moment: Moment) -> dict[str, Tensor]:
        """What decays or grows, as curves."""
        values = {"growth.resolution": float(moment.resolution), "growth.alpha": moment.alpha}
        if self.section.label_noise.kind != "none":
            values["label_noise"] = self.section.label_noise.amount.at(images, moment, self.batch)
        if self.section.instance_noise.applies_to != "none":
            values["instance_noise"] = self.section.instance_noise.deviation.at(images, moment, self.batch)
        return {name: torch.full((), float(value), device=self.device) for name, value in values.items()}

    @torch.no_grad()
    def _change(self, iteration: int, moment: Moment) -> dict[str, Tensor]:
        """Now and then: how far the generator in training has moved on fixed beginnings, mean |Δ| of a pixel."""
        if iteration % CHANGE_ITERATIONS:
            return {}
        given = self._ink(self.drawer.beginnings[:CHANGE_PICTURES])
        draw = partial(self.drawer.draw, level=moment.level, alpha=moment.alpha)
        picture = self._fixed(draw, given, derived_seed("change"))
        change = (picture - self.changing.picture_M1HW).abs().mean()
        self.changing.picture_M1HW.copy_(picture)
        return {"sample_change": change} if iteration else {}

    def sample(self, count: int, seed: int) -> Tensor:
        """Parts alone, dark ink on light paper, [count, 1, R, R] in [-1, 1]; `seed` draws what they continue, too."""
        return 1 - 2 * self.continued(self.begun(count, seed), seed)

    def show(self, count: int, seed: int) -> Tensor:
        """The same on what they continue, which is drawn in grey."""
        given = self.begun(count, seed)
        ink = torch.maximum(self.continued(given, seed), GREY * self._ink(given).amax(1, keepdim=True))
        return 1 - 2 * ink

    def begun(self, count: int, seed: int) -> Tensor:
        """Drawings so far, uint8 [count, P, R, R]; without data at hand, those that came with the generator."""
        if self.known.conditions is not None:
            given: Tensor = self.known.conditions(count, seed).given_NPHW
            return given
        return self.drawer_ema.beginnings[torch.arange(count) % BEGINNINGS].cpu()

    def continued(self, given_NPHW: Tensor, seed: int) -> Tensor:
        """Ink in [0, 1], [N, 1, R, R], of the averaged generator's part for each drawing so far, uint8."""
        chunks = given_NPHW.split(SAMPLE_CHUNK)
        return torch.cat([
            self._fixed(self.drawer_ema, self._ink(chunk), derived_seed(seed, at)) for at, chunk in enumerate(chunks)
        ])  # fmt: skip

    @torch.no_grad()
    def _fixed(self, draw: Callable[[Tensor, Tensor], Tensor], given_NPHW: Tensor, seed: int) -> Tensor:
        """Parts whose latents and noise follow from `seed` alone."""
        cpu = torch.device("cpu")
        z = torch.randn(len(given_NPHW), self.section.latent.size, generator=generator(cpu, "z", seed))
        with seeded(self.device, "noise", seed):
            return draw(given_NPHW, z.to(self.device))

    def judge(self, batch: SketchBatch, seed: int) -> Logits:
        """The discriminator on the real parts of `batch`, and on as many of the generator in training."""
        moment = self._moment()
        logits = []
        with seeded(self.device, "judge", seed):
            for share in self._shares(batch, moment):
                with torch.no_grad():
                    fake = self._stacked(self._continue(share, moment), share.given_NPSS)
                real = self._stacked(share.part_N1SS, share.given_NPSS)
                logits.append([self.D(image, moment.level, moment.alpha) for image in (real, fake)])
        return Logits(*(torch.cat(kind) for kind in zip(*logits, strict=True)))

    def judgement_loss(self, logits: Logits) -> Tensor:
        """What the discriminator minimises, without label noise."""
        return self.critic.real(logits.real_N).mean() + self.critic.fake(logits.fake_M).mean()

    def judge_gradient(self, batch: SketchBatch) -> Tensor:
        """‖∇D(real)‖², mean."""
        moment = self._moment()
        share = next(self._shares(batch, moment))
        real = self._stacked(share.part_N1SS, share.given_NPSS)
        return r1(slope(lambda image: self.D(image, moment.level, moment.alpha), real)).detach()

    def stages(self) -> tuple[int, ...]:
        """Image counts at which a step trains every layer, between them."""
        return self.timetable.stages()

    def late(self, images: int) -> list[Tensor]:
        """Learnable tensors of resolutions that have not begun after `images` images."""
        now, start = self.timetable.at(images).level, self.timetable.start_level
        synthesis = self.G.synthesis
        sleeping: list[nn.Module] = [*synthesis.blocks[now + 1 :], *self.D.blocks[now:]]
        if not synthesis.skip:
            sleeping += synthesis.to_ink[now + 1 - start :]
        sleeping += self.D.from_ink[now + 1 - start :]
        return [tensor for module in sleeping for tensor in module.parameters()]

    def adjust(self, *, learning_rate_factor: float, r1_gamma_factor: float) -> None:
        """Learning rates and gamma: the spec's, times these factors."""
        set_rates(self.optimizers, self.learning_rates, learning_rate_factor)
        self.r1_gamma = self.section.loss.r1.gamma * r1_gamma_factor

    def _moment(self) -> Moment:
        """When the generator was last trained, as far as networks and pictures depend on it."""
        level, alpha = int(self.G.level), float(self.G.alpha)
        return Moment(4 << level, level, alpha, 0, alpha < 1)

    def effective(self, images: int) -> dict[str, Any]:
        """What is in force at `images`, and what was or will be when each resolution begins."""
        rates = {f"learning_rate.{name}": opt.param_groups[0]["lr"] for name, opt in self.optimizers.items()}
        now = self.timetable.at(images)
        said = {
            **rates,
            "betas": list(self.section.optimizer.betas),
            "r1.gamma": self.r1_gamma,
            "ema.beta": self._ema_beta(images),
            "growth.resolution": now.resolution,
            "growth.alpha": now.alpha,
        }
        if not isinstance(self.section.growth, NoGrowth):
            for begin in self.timetable.begins:
                said |= self._at_growth(begin)
        return said

    def _at_growth(self, begin: int) -> dict[str, Any]:
        moment = self.timetable.at(begin)
        said: dict[str, Any] = {f"growth.{moment.resolution}.begins_images": begin}
        for name, value in self._conditions_of_training(begin, moment).items():
            if not name.startswith("growth."):
                said[f"growth.{moment.resolution}.{name}"] = float(value)
        return said


class _Changing(nn.Module):
    """What the generator drew when it was last asked how much it changes."""

    picture_M1HW: Tensor

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.register_buffer("picture_M1HW", torch.zeros(CHANGE_PICTURES, 1, resolution, resolution))


def with_whole(given_NPHW: Tensor) -> Tensor:
    """Parts and, as one more channel, all of them in one."""
    return torch.cat([given_NPHW, given_NPHW.amax(1, keepdim=True)], dim=1)


def _adam(network: nn.Module | None, rate: float, section: spec.Adam) -> Adam:
    assert network is not None
    return Adam(network.parameters(), lr=rate, betas=section.betas, eps=section.epsilon, fused=True)
