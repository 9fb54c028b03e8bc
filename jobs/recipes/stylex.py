"""StylEx (Lang et al. 2021): a StyleGAN2 that also rebuilds images, from their encoding and a classifier's answer.

An iteration belongs to one of two branches: pictures are made from latents (noise), or from encoded real images
(encoder). The discriminator tells real from made; then the generator, and in the encoder branch the encoder, fool it,
and there the picture must also be like its image, in pixels, in w, in activations, and for the classifier. Branches
change with the iteration, never with the micro-batch, so every part is trained however a batch is accumulated.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jobs.data import ImageBatch
from jobs.errors import DataError
from jobs.losses import penalties
from jobs.losses.adversarial import HINGE, LOGISTIC, stance
from jobs.losses.path_length import RunningMean
from jobs.losses.reconstruction import classifier_kl, l1, stretched
from jobs.losses.slopes import Slope, slope_before
from jobs.networks import augment
from jobs.networks.classifier import ImageClassifier
from jobs.networks.discriminator import judged_both
from jobs.networks.explaining import ANSWERS, ToldGenerator, discriminator_of, encoder_of
from jobs.networks.mapping import mean_vector
from jobs.networks.precision import Precision
from jobs.spec import stylex as spec
from jobs.spec.job import Job
from jobs.training.ema import ema_beta, frozen_copy, update_ema
from jobs.training.optimizer import descend, lazy_adam, set_rates
from jobs.training.probe import Logits
from jobs.training.recipe import Known, Stateful
from jobs.training.seeds import derived_seed, generator, seeded
from jobs.training.shares import Shares
from jobs.training.team import ALONE

Branch = Literal["noise", "encoder"]

SAMPLE_CHUNK = 32
"""Images drawn at a time when sampling; part of what a seed means, so it never depends on memory."""


class Share(NamedTuple):
    """A micro-batch: real images in [-1, 1], the classifier's logits on them, and the latents of two phases."""

    real: Tensor
    said_NK: Tensor
    latents: "tuple[Latents, Latents] | None"
    """Of the discriminator's phase and of the generator's; None in the encoder branch."""


class Latents(NamedTuple):
    """Two latents an image, and the layer from which on the second one is used."""

    z_ND: Tensor
    other_ND: Tensor
    cut_N: Tensor


class StylEx:
    """The recipe: three networks with an optimizer each, a frozen classifier, and the order of updates."""

    def __init__(self, job: Job, known: Known, precision: str, device: torch.device) -> None:
        section = job.recipe
        assert isinstance(section, spec.StylEx)
        assert job.training.batch is not None and job.training.micro_batch is not None, "a resolved spec"
        self.section, self.device, self.known, self.team = section, device, known, ALONE
        self.batch, self.micro_batch = job.training.batch, job.training.micro_batch
        classes = len(known.class_counts)

        torch.manual_seed(derived_seed("weights", job.seed))
        format_ = Precision(precision, section.data.resolution)
        self.G = ToldGenerator(section, classes, format_).to(device)
        self.E = encoder_of(section, format_).to(device) if section.encodes else None
        self.D = discriminator_of(section, classes, format_).to(device)
        self.classifier: nn.Module = frozen_copy(known.classifier or ImageClassifier(section.classifier, classes)).to(
            device
        )
        self.path_mean = RunningMean().to(device)
        self.augmentation = augment.build(section.augmentation, section.data.resolution).to(device)
        self.D_slope = Slope(lambda image, label: self.D(image, label, full_precision=True))
        self.w_slope = Slope(lambda w_NLD: penalties.on_noise(self.G.synthesis(w_NLD)))
        self.adversarial = HINGE if section.adversarial.kind == "hinge" else LOGISTIC
        self._remember_answers()
        self.G_ema = frozen_copy(self.G)
        self.E_ema = None if self.E is None else frozen_copy(self.E)
        self.average = nn.ModuleDict({"G": self.G_ema, "classifier": self.classifier})
        if self.E_ema is not None:
            self.average["E"] = self.E_ema

        paths = section.path_length
        penalised = section.penalty.interval if _weight(section.penalty) else None
        self.optimizers: dict[str, Optimizer] = {
            "G": self._adam(self.G, section.optimizer.learning_rate, paths.interval if paths.weight else None),
            "D": self._adam(self.D, section.discriminator.learning_rate, penalised),
        }
        if self.E is not None:
            self.optimizers["E"] = self._adam(self.E, section.encoder.learning_rate, None)
        self.half_precision = precision == "fp16"
        self.penalty_factor = 1.0
        self.learning_rates = {name: opt.param_groups[0]["lr"] for name, opt in self.optimizers.items()}

    @property
    def parts(self) -> Mapping[str, Stateful]:
        optimizers = {f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()}
        return {
            **self.networks,
            "average": self.average,
            **optimizers,
            "path_mean": self.path_mean,
            "augmentation": self.augmentation,
        }

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {**self._made_of(), "D": self.D}

    @property
    def generator_ema(self) -> nn.Module:
        """Averaged generator and encoder, and the classifier: all that explaining needs."""
        return self.average

    @property
    def hot(self) -> tuple[nn.Module, ...]:
        """What `training.compile` compiles."""
        return (self.G.synthesis, self.D, self.D_slope, self.w_slope, *(() if self.E is None else (self.E,)))

    def step(self, batch: ImageBatch, images: int) -> dict[str, Tensor]:
        """One iteration on uint8 images [N, C, R, R]."""
        iteration = images // self.batch
        branch = self._branch(iteration)
        shares = self.team.shares(list(self._shares(self._signed(batch), branch)))

        self._learn("D")
        scalars = self._tell_apart(shares)
        if _weight(self.section.penalty) and iteration % self.section.penalty.interval == 0:
            scalars |= self._penalise_gradient(shares)

        learners = ("G", "E") if branch == "encoder" else ("G",)
        self._learn(*learners)
        if branch == "encoder":
            scalars |= self._rebuild_meanwhile(shares)
        scalars |= self._fool(shares, branch, learners)
        self._track_average_w(shares)
        if self._evens_out_paths(images, branch):
            scalars |= self._even_out_paths(shares)

        self.team.add(self.augmentation.seen_now)
        self.augmentation.adapt(iteration, self.batch)
        beta = self._ema_beta(images)
        for name, network in self._made_of().items():
            update_ema(self.average[name], network, beta)
        return scalars | self.augmentation.scalars()

    def _branch(self, iteration: int) -> Branch:
        match self.section.alternating:
            case "alternate":
                first = self.section.first_branch == "noise"
                return "noise" if (iteration % 2 == 0) == first else "encoder"
            case "encoder_only":
                return "encoder"
            case "noise_only":
                return "noise"

    def _tell_apart(self, shares: Shares[Share]) -> dict[str, Tensor]:
        """Discriminator: real up, made down."""
        totals = torch.zeros(5, device=self.device)
        for share in shares:
            label = self._label(share.said_NK)
            with torch.no_grad():
                made = self.G.synthesis(self._styles(share, phase=0))
            on_made, on_real = judged_both(self.D, (self.augmentation(made), self.augmentation(share.real)), label)
            self.augmentation.observe(on_real.detach())
            loss = self.judgement_loss(Logits(on_real, on_made)) / len(shares)
            loss.backward()
            totals += torch.stack([loss.detach(), *stance(on_real, len(shares)), *stance(on_made, len(shares))])
        loss, real_mean, real_sign, made_mean, made_sign = totals.unbind()
        return {
            "loss.discriminator": loss,
            "logit.real": real_mean,
            "logit.fake": made_mean,
            "sign.real": real_sign,
            "sign.fake": made_sign,
            "gradient.discriminator": self._descend("D"),
        }

    def _penalise_gradient(self, shares: Shares[Share]) -> dict[str, Tensor]:
        """Discriminator, now and then: its gradient at real images, scaled by how rarely it is asked."""
        section = self.section.penalty
        total = torch.zeros((), device=self.device)
        for share in shares:
            gradient = self._gradient_at(share.real, self._label(share.said_NK))
            if isinstance(section, spec.R1):
                penalty = penalties.r1(gradient) / 2
            else:
                penalty = penalties.unit_gradient(gradient, section.target)
            loss = penalty * _weight(section) * self.penalty_factor / len(shares)
            (loss * section.interval).backward()
            total += loss.detach()
        self._descend("D")
        return {"loss.penalty": total}

    def _rebuild_meanwhile(self, shares: Shares[Share]) -> dict[str, Tensor]:
        """`kl_rec_during_disc`: reconstruction and KL once more, beside the discriminator's update."""
        mode = self.section.kl_rec_during_disc
        if mode == "off":
            return {}
        totals = torch.zeros(2, device=self.device)
        for share in shares:
            with torch.set_grad_enabled(mode != "log_only"):
                w = self._encoded(share)
                made = self.G.synthesis(self.G.every_layer(w))
                terms = self._differences(share, w, made)
                loss = self._weighted(terms) / len(shares)
            if mode != "log_only":
                loss.backward()  # "carry": stays for the generator's phase, which adds to it and steps
            totals += torch.stack([self._reconstruction(terms), terms["kl"]]).detach() / len(shares)
        if mode == "own_step":
            self._descend("G")
            self._descend("E")
        return {"loss.reconstruction_during_discriminator": totals[0], "loss.kl_during_discriminator": totals[1]}

    def _fool(self, shares: Shares[Share], branch: Branch, learners: tuple[str, ...]) -> dict[str, Tensor]:
        """Generator (and encoder): pictures should be taken for real, and be like their images."""
        totals: dict[str, Tensor] = {}
        for share in shares:
            w = self._encoded(share) if branch == "encoder" else None
            styles = self._styles(share, phase=1) if w is None else self.G.every_layer(w)
            made = self.G.synthesis(styles)
            fooled = self.adversarial.fool(self._judged(made, self._label(share.said_NK)))
            loss = self.section.adversarial.weight * fooled
            said = {f"loss.generator_{branch}": fooled}
            if w is not None:
                terms = self._differences(share, w, made)
                loss = loss + self._weighted(terms)
                said |= {f"loss.{name}": value for name, value in terms.items()}
                said["loss.reconstruction"] = self._reconstruction(terms)
            (loss / len(shares)).backward()
            for name, value in said.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + value.detach() / len(shares)
        names = {"G": "gradient.generator", "E": "gradient.encoder"}
        return totals | {names[learner]: self._descend(learner) for learner in learners}

    def _even_out_paths(self, shares: Shares[Share]) -> dict[str, Tensor]:
        """Generator, now and then: a step in w should change the image equally much everywhere (SG2, Equation 4)."""
        section = self.section.path_length
        total, length = (torch.zeros((), device=self.device) for _ in range(2))
        self._learn("G")
        for share in shares:
            w_NLD = self._styles(share, phase=1)[:: section.batch_shrink]
            lengths = penalties.path_lengths(self.w_slope(w_NLD))
            loss = (lengths - self.path_mean.value).square().mean() * section.weight / len(shares)
            (loss * section.interval).backward()
            total += loss.detach()
            length += lengths.detach().mean() / len(shares)
        self.path_mean.value.lerp_(self.team.mean(length), section.decay)  # once: micro-batches must not matter
        self._descend("G")
        return {"loss.path_length": total, "path_length": length}

    def _differences(self, share: Share, w_ND: Tensor, made: Tensor) -> dict[str, Tensor]:
        """Every term between an image and its reconstruction, not weighted."""
        assert self.E is not None
        section = self.section.reconstruction
        terms = {"pixels": l1(made, share.real)}
        if section.w:
            style = self.section.generator.style
            terms["w"] = (w_ND[:, :style] - self.E(made)).abs().mean()
        if section.perceptual.kind != "none" and section.perceptual.weight:
            assert self.known.perceptual is not None, "a recipe that trains is given its perceptual distance"
            per_image = section.perceptual.normalize == "per_image"
            pair = (stretched(share.real), stretched(made)) if per_image else (share.real, made)
            terms["perceptual"] = self.known.perceptual(*pair)
        says_NK = self.classifier(made)
        forth = self.section.kl.direction == "input_to_rebuilt"
        terms["kl"] = classifier_kl(share.said_NK, says_NK) if forth else classifier_kl(says_NK, share.said_NK)
        return terms

    def _reconstruction(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The reconstruction's terms by their weights."""
        section = self.section.reconstruction
        weights = {"pixels": section.pixels, "w": section.w, "perceptual": section.perceptual.weight}
        return sum((weights[name] * terms[name] for name in weights if name in terms), torch.zeros_like(terms["kl"]))

    def _weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """What the encoder branch minimises beside its adversarial term."""
        section = self.section
        twice = 2.0 if section.alternating == "alternate" and section.double_when_alternating else 1.0
        return twice * (section.reconstruction.scale * self._reconstruction(terms) + section.kl.scale * terms["kl"])

    def _styles(self, share: Share, *, phase: int) -> Tensor:
        """w [N, L, D] of either branch."""
        if share.latents is None:
            return self.G.every_layer(self._encoded(share))
        assert self.G.mapping is not None
        latents = share.latents[phase]
        if not self.section.mixing_probability:
            return self.G.every_layer(self.G.told(self.G.mapping(latents.z_ND), share.said_NK, drawn=True))
        mapped = self.G.mapping(torch.cat([latents.z_ND, latents.other_ND])).chunk(2)
        first, other = (self.G.told(w_ND, share.said_NK, drawn=True) for w_ND in mapped)
        layer_L = torch.arange(self.G.synthesis.styles, device=self.device)
        return torch.where((layer_L < latents.cut_N[:, None])[:, :, None], first[:, None], other[:, None])

    @torch.no_grad()
    def _track_average_w(self, shares: Shares[Share]) -> None:
        """The running mean of w, for truncation."""
        z = [share.latents[1].z_ND for share in shares if share.latents is not None]
        if z and self.G.mapping is not None:
            mean_D = self.team.mean(mean_vector(self.G.mapping(torch.cat(z))))
            self.G.mapping.track_average(mean_D, self.section.generator.mapping.w_average_beta)

    def _encoded(self, share: Share) -> Tensor:
        """w [N, D] of real images."""
        assert self.E is not None
        return self.G.told(self.E(share.real), share.said_NK)

    def _judged(self, image: Tensor, label: Tensor | None) -> Tensor:
        """The discriminator's logits [N, 1], of what it sees through the augmentation."""
        logit: Tensor = self.D(self.augmentation(image), label)
        return logit

    def _gradient_at(self, real: Tensor, label: Tensor | None) -> Tensor:
        """∇D at images as they are before augmentation, in float32."""
        return slope_before(self.augmentation, lambda seen: self.D_slope(seen, label), real)

    def _label(self, said_NK: Tensor) -> Tensor | None:
        """What the discriminator is told."""
        return None if self.section.conditioning.discriminator == "none" else said_NK.softmax(1)

    def _shares(self, real: Tensor, branch: Branch) -> Iterator[Share]:
        """Micro-batches. Latents are drawn for the whole batch, so that they do not depend on how it is cut."""
        drawn = None if branch == "encoder" else (self._latents(len(real)), self._latents(len(real)))
        for start in range(0, len(real), self.micro_batch):
            here = slice(start, start + self.micro_batch)
            latents = None if drawn is None else tuple(Latents(*(part[here] for part in each)) for each in drawn)
            with torch.no_grad():
                said_NK = self.classifier(real[here])
            yield Share(real[here], said_NK, latents)  # type: ignore[arg-type]

    def _latents(self, count: int) -> Latents:
        size, layers = self.section.generator.latent, self.G.synthesis.styles
        count *= self.team.size
        z_2ND = torch.randn(2, count, size, device=self.device)
        mixes = torch.rand(count, device=self.device) < self.section.mixing_probability
        cut_N = torch.where(mixes, torch.randint(1, layers, (count,), device=self.device), layers)
        return Latents(*map(self.team.own, (z_2ND[0], z_2ND[1], cut_N)))

    def _evens_out_paths(self, images: int, branch: Branch) -> bool:
        section, iteration = self.section.path_length, images // self.batch
        if not section.weight or images < section.start_images or (self.section.draws and branch == "encoder"):
            return False
        turns = 2 if self.section.alternating == "alternate" else 1
        return iteration // turns % section.interval == 0

    def _learn(self, *learners: str) -> None:
        """Only these get gradients: none are computed to be thrown away."""
        for name, network in self.networks.items():
            network.requires_grad_(name in learners)

    def _descend(self, name: str) -> Tensor:
        """One optimizer step with the gradients at hand; returns their norm."""
        return descend(self.networks[name], self.optimizers[name], self.team, half_precision=self.half_precision)

    def _made_of(self) -> dict[str, nn.Module]:
        """The networks that make pictures; these have averages."""
        return {"G": self.G} if self.E is None else {"G": self.G, "E": self.E}

    def _adam(self, network: nn.Module, learning_rate: float | None, interval: int | None) -> Optimizer:
        section = self.section.optimizer.model_copy(update={"learning_rate": learning_rate})
        return lazy_adam(network.parameters(), section, interval)

    def _ema_beta(self, images: int) -> float:
        ema = self.section.ema
        assert ema.half_life_images is not None and ema.ramp is not None, "a resolved spec"
        return ema_beta(self.batch, images, ema.half_life_images, ema.ramp)

    def _signed(self, batch: ImageBatch) -> Tensor:
        return batch.image_NCHW.to(self.device, non_blocking=True).float() / 127.5 - 1

    @torch.no_grad()
    def _remember_answers(self) -> None:
        """The classifier's answers on some real images, which latents are later drawn with."""
        if self.known.conditions is not None and self.known.classifier is not None:
            for start in range(0, ANSWERS, SAMPLE_CHUNK):
                real = self._signed(self.known.conditions(SAMPLE_CHUNK, start))
                self.G.answers_MK[start : start + SAMPLE_CHUNK] = self.classifier(real)

    def sample(self, count: int, seed: int) -> Tensor:
        """Pictures of the averaged generator, as metrics judge them: without truncation."""
        return self._draw(count, seed, truncation_psi=1.0)

    def show(self, count: int, seed: int) -> Tensor:
        """Pictures of the averaged generator, as people see them."""
        return self._draw(count, seed, truncation_psi=self.section.truncation_psi)

    @torch.no_grad()
    def _draw(self, count: int, seed: int, truncation_psi: float = 1.0, noise: int | None = None) -> Tensor:
        """Latents, answers and noise come from `seed` alone (`noise`: another seed of the noise)."""
        w_ND, synthesis = self.draw_w(count, seed, truncation_psi), self.G_ema.synthesis
        drawn = []
        with seeded(self.device, "noise", seed if noise is None else noise):
            for part in w_ND.split(SAMPLE_CHUNK):
                drawn.append(synthesis(self.G.every_layer(part)).clamp(-1, 1))
        return torch.cat(drawn)

    @torch.no_grad()
    def draw_w(self, count: int, seed: int, truncation_psi: float = 1.0) -> Tensor:
        """w [count, D] of the averaged mapping network; without one, of real images drawn by `seed`."""
        averaged = self.G_ema
        if averaged.mapping is None:
            return self.encode(self._real_images(count, seed))
        source = generator(torch.device("cpu"), "z", seed)
        z = torch.randn(count, self.section.generator.latent, generator=source).to(self.device)
        w = averaged.mapping(z)
        if truncation_psi != 1.0:
            w = averaged.mapping.w_average.lerp(w, truncation_psi)
        chosen = torch.randint(ANSWERS, (count,), generator=source).to(self.device)
        return self.G.told(w, averaged.answers_MK[chosen], drawn=True)

    def _real_images(self, count: int, seed: int) -> Tensor:
        if self.known.conditions is None:
            raise DataError(
                "alternating: encoder_only trains a generator that makes pictures of images, not of latents",
                hint="gankiln explain CHECKPOINT IMAGES rebuilds and explains images",
            )
        return self._signed(self.known.conditions(count, seed))

    @torch.no_grad()
    def encode(self, image_NCHW: Tensor) -> Tensor:
        """w [N, D] of images in [-1, 1], by the averaged encoder and the classifier."""
        assert self.E_ema is not None
        parts = image_NCHW.split(SAMPLE_CHUNK)
        return torch.cat([self.G.told(self.E_ema(part), self.classifier(part)) for part in parts])

    @torch.no_grad()
    def paint(self, w_ND: Tensor) -> Tensor:
        """Pictures of w by the averaged generator, without noise: one w is always one picture."""
        parts = w_ND.split(SAMPLE_CHUNK)
        synthesis = self.G_ema.synthesis
        return torch.cat([synthesis(self.G.every_layer(part), noise_scale=0.0).clamp(-1, 1) for part in parts])

    @torch.no_grad()
    def score(self, image_NCHW: Tensor, said_NK: Tensor) -> Tensor:
        """The discriminator's logit on images of which the classifier says `said_NK`, [N]."""
        return self.D(image_NCHW, self._label(said_NK)).squeeze(1)

    def judge(self, batch: ImageBatch, seed: int) -> Logits:
        """The discriminator on the images of `batch`, and on as many of the generator in training."""
        real = self._signed(batch)
        with seeded(self.device, "judge", seed), torch.no_grad():
            branch: Branch = "noise" if self.section.draws else "encoder"
            shares = list(self._shares(real, branch))
            made = torch.cat([self.G.synthesis(self._styles(share, phase=0)) for share in shares])
        self._learn("D")
        label = self._label(torch.cat([share.said_NK for share in shares]))
        return Logits(self._judged(real, label), self._judged(made, label))

    def judgement_loss(self, logits: Logits) -> Tensor:
        """Of the discriminator, without its penalty."""
        return self.adversarial.real(logits.real_N) + self.adversarial.fake(logits.fake_M)

    def judge_gradient(self, batch: ImageBatch) -> Tensor:
        """‖∇D(real)‖², mean."""
        real = self._signed(batch)
        with torch.no_grad():
            label = self._label(self.classifier(real))
        return penalties.r1(self._gradient_at(real, label)).detach()

    def swap(self, styles: int, noises: int, seed: int) -> Tensor:
        """The same styles under the same noises, [styles, noises, C, R, R]; one image at a time, as in StyleGAN2."""
        rows = [
            torch.cat([self._draw(1, derived_seed("swap", seed, row), noise=noise) for noise in range(noises)])
            for row in range(styles)
        ]
        return torch.stack(rows)

    def adjust(self, *, learning_rate_factor: float, r1_gamma_factor: float) -> None:
        """Learning rates and the gradient's penalty: the spec's, times these factors."""
        set_rates(self.optimizers, self.learning_rates, learning_rate_factor)
        self.penalty_factor = r1_gamma_factor

    def effective(self, images: int) -> dict[str, Any]:
        """What is in force at `images`."""
        rates = {f"learning_rate.{name}": opt.param_groups[0]["lr"] for name, opt in self.optimizers.items()}
        betas = {f"betas.{name}": list(opt.param_groups[0]["betas"]) for name, opt in self.optimizers.items()}
        twice = self.section.alternating == "alternate" and self.section.double_when_alternating
        return {
            **rates,
            **betas,
            "penalty.weight": _weight(self.section.penalty) * self.penalty_factor,
            "reconstruction.scale": self.section.reconstruction.scale * (2 if twice else 1),
            "kl.scale": self.section.kl.scale * (2 if twice else 1),
            "ema.beta": self._ema_beta(images),
            "path_length.mean": float(self.path_mean.value),
        }


def _weight(penalty: spec.R1 | spec.GradientPenalty) -> float:
    return penalty.gamma if isinstance(penalty, spec.R1) else penalty.weight
