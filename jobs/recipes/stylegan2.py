"""StyleGAN2 (Karras et al. 2020), with the training settings of StyleGAN2-ADA.

An iteration: the generator fools the discriminator; every 4th time its path lengths are evened out; the discriminator
tells real from generated; every 16th time its gradient at real images is penalised; the averaged generator follows.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jobs.data import ImageBatch
from jobs.losses.adversarial import logistic_fake, logistic_fool, logistic_real, stance
from jobs.losses.path_length import PathLengthPenalty
from jobs.losses.penalties import on_noise, r1
from jobs.losses.slopes import Slope, slope_before
from jobs.networks import augment
from jobs.networks.discriminator import Discriminator, judged_both
from jobs.networks.generator import StyleGenerator
from jobs.networks.mapping import mean_vector
from jobs.networks.precision import Precision
from jobs.spec import stylegan2 as spec
from jobs.spec.data import CHANNEL_COUNT
from jobs.spec.job import Job
from jobs.training.ema import ema_beta, frozen_copy, update_ema
from jobs.training.optimizer import descend, lazy_adam, set_rates
from jobs.training.probe import Logits
from jobs.training.recipe import Known, Stateful
from jobs.training.seeds import derived_seed, generator, seeded
from jobs.training.shares import Shares
from jobs.training.team import ALONE

SAMPLE_CHUNK = 32
"""Images drawn at a time when sampling; part of what a seed means, so it never depends on memory."""


class StyleGAN2:
    """The recipe: two networks, two optimizers, and the order in which they are updated."""

    def __init__(self, job: Job, known: Known, precision: str, device: torch.device) -> None:
        section = job.recipe
        assert isinstance(section, spec.StyleGAN2)
        assert job.training.batch is not None and job.training.micro_batch is not None, "a resolved spec"
        self.section, self.device, self.team = section, device, ALONE
        self.batch, self.micro_batch = job.training.batch, job.training.micro_batch
        self.labels = known.class_counts if section.conditional else ()

        torch.manual_seed(derived_seed("weights", job.seed))
        format_ = Precision(precision, section.data.resolution)
        resolution, channels = section.data.resolution, CHANNEL_COUNT[section.data.channels]
        self.G = StyleGenerator(section.generator, resolution, channels, len(self.labels), format_).to(device)
        self.D = _discriminator(section, len(self.labels), format_).to(device)
        self.G_ema = frozen_copy(self.G)
        self.path_length = PathLengthPenalty(section.path_length, self.G.synthesis.vectors).to(device)
        self.augmentation = augment.build(section.augmentation, resolution).to(device)
        self.D_slope = Slope(lambda image, label_N: self.D(image, label_N, full_precision=True))
        self.w_slope = Slope(lambda w_NLD: on_noise(self.G.synthesis(w_NLD)))

        regularised = section.path_length.interval if section.path_length.weight else None
        self.G_optimizer = lazy_adam(self.G.parameters(), section.optimizer, regularised)
        self.D_optimizer = lazy_adam(
            self.D.parameters(), section.optimizer, section.r1.interval if section.r1.gamma else None
        )
        self.half_precision = precision == "fp16"
        self.r1_gamma = section.r1.gamma
        self.learning_rates = {name: opt.param_groups[0]["lr"] for name, opt in self.optimizers.items()}

    @property
    def parts(self) -> Mapping[str, Stateful]:
        return {
            "G": self.G,
            "D": self.D,
            "G_ema": self.G_ema,
            "G_optimizer": self.G_optimizer,
            "D_optimizer": self.D_optimizer,
            "path_length": self.path_length,
            "augmentation": self.augmentation,
        }

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"G": self.G, "D": self.D}

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        return {"G": self.G_optimizer, "D": self.D_optimizer}

    @property
    def generator_ema(self) -> nn.Module:
        return self.G_ema

    @property
    def hot(self) -> tuple[nn.Module, ...]:
        """What `training.compile` compiles."""
        return self.G.synthesis, self.D, self.D_slope, self.w_slope

    def step(self, batch: ImageBatch, images: int) -> dict[str, Tensor]:
        """One iteration on uint8 images [N, C, R, R]."""
        real, labels = self._signed(batch)  # [-1, 1] from here on
        pairs = self.team.shares(list(self._micro_batches(real, labels)))
        iteration = images // self.batch

        self._learns(self.G, self.D)
        self._start_noise(images)
        scalars = self._fool(pairs)
        if self.section.path_length.weight and iteration % self.section.path_length.interval == 0:
            scalars |= self._even_out_paths(pairs)

        self._learns(self.D, self.G)
        scalars |= self._tell_apart(pairs)
        if self.r1_gamma and iteration % self.section.r1.interval == 0:
            scalars |= self._penalise_gradient(pairs)
        self.team.add(self.augmentation.seen_now)
        self.augmentation.adapt(iteration, self.batch)

        update_ema(self.G_ema, self.G, self._ema_beta(images))
        return scalars | self.augmentation.scalars()

    def _fool(self, pairs: "Shares[Pair]") -> dict[str, Tensor]:
        """Generator: its images should be taken for real."""
        loss = torch.zeros((), device=self.device)
        w_means: list[Tensor] = []
        for real, label in pairs:
            fake = self._synthesise(len(real), label, w_means)
            share = logistic_fool(self._judged(fake, label)) / len(pairs)
            share.backward()
            loss += share.detach()
        self._track_average_w(w_means)
        return {"loss.generator": loss, "gradient.generator": self._descend(self.G, self.G_optimizer)}

    def _even_out_paths(self, pairs: "Shares[Pair]") -> dict[str, Tensor]:
        """Generator, now and then: a step in w should change the image equally much everywhere (Equation 4)."""
        section = self.section.path_length
        assert section.weight is not None
        loss, length = (torch.zeros((), device=self.device) for _ in range(2))
        for real, label in pairs:
            count = len(real) // section.batch_shrink
            w = self._styles(count, None if label is None else label[:count])
            penalty, mean_length = self.path_length(self.w_slope(w))
            share = penalty * section.weight / len(pairs)
            (share * section.interval).backward()
            loss += share.detach()
            length += mean_length / len(pairs)
        self.path_length.track(self.team.mean(length))
        self._descend(self.G, self.G_optimizer)
        return {"loss.path_length": loss, "path_length": length}

    def _tell_apart(self, pairs: "Shares[Pair]") -> dict[str, Tensor]:
        """Discriminator: real up, generated down."""
        totals = torch.zeros(5, device=self.device)
        for real, label in pairs:
            with torch.no_grad():
                fake = self._synthesise(len(real), label)
            on_fake, on_real = judged_both(self.D, (self.augmentation(fake), self.augmentation(real)), label)
            self.augmentation.observe(on_real.detach())
            share = self.judgement_loss(Logits(on_real, on_fake)) / len(pairs)
            share.backward()
            totals += torch.stack([share.detach(), *stance(on_real, len(pairs)), *stance(on_fake, len(pairs))])
        loss, real_mean, real_sign, fake_mean, fake_sign = totals.unbind()
        return {
            "loss.discriminator": loss,
            "logit.real": real_mean,
            "logit.fake": fake_mean,
            "sign.real": real_sign,
            "sign.fake": fake_sign,
            "gradient.discriminator": self._descend(self.D, self.D_optimizer),
        }

    def _penalise_gradient(self, pairs: "Shares[Pair]") -> dict[str, Tensor]:
        """Discriminator, now and then: gentle around real images, scaled by how rarely it is asked."""
        section, gamma = self.section.r1, self.r1_gamma
        assert isinstance(gamma, float)
        penalty = torch.zeros((), device=self.device)
        for real, label in pairs:
            share = self._gradient_at(real, label) / len(pairs)
            (share * (gamma / 2) * section.interval).backward()
            penalty += share.detach()
        self._descend(self.D, self.D_optimizer)
        return {"loss.r1": penalty * (gamma / 2), "r1.penalty": penalty}

    def _judged(self, image: Tensor, label_N: Tensor | None) -> Tensor:
        """The discriminator's logits [N, 1], of what it sees through the augmentation."""
        logit: Tensor = self.D(self.augmentation(image), label_N)
        return logit

    def _gradient_at(self, real: Tensor, label_N: Tensor | None) -> Tensor:
        """‖∇D‖² at images as they are before augmentation, in float32."""
        return r1(slope_before(self.augmentation, lambda seen: self.D_slope(seen, label_N), real))

    def _synthesise(self, count: int, label_N: Tensor | None, w_means: list[Tensor] | None = None) -> Tensor:
        """Images of fresh latents, styles mixed; appends the mean w [D] of the first latents alone to `w_means`."""
        return self.G.synthesis(self._styles(count, label_N, w_means))

    def _styles(self, count: int, label_N: Tensor | None, w_means: list[Tensor] | None = None) -> Tensor:
        """w [N, L·K, D] of fresh latents; now and then mixed from two, or drawn for each layer by itself."""
        section, G = self.section, self.G
        mixing, align_to_k = section.mixing_probability or 0.0, section.mixing_align_to_k
        w, styles = G.styles(count, label_N, self.device, mixing=mixing, align_to_k=align_to_k)
        if w_means is not None:
            w_means.append(mean_vector(w))
        if section.w_plus_probability:
            chosen_N = torch.rand(count, device=self.device) < section.w_plus_probability
            styles = torch.where(chosen_N[:, None, None], G.independent(count, label_N, self.device), styles)
        return styles

    def _track_average_w(self, w_means: list[Tensor]) -> None:
        """The running mean of w, from the means of all micro-batches."""
        mean_D = torch.stack(w_means).mean(0) if len(w_means) > 1 else w_means[0]
        self.G.mapping.track_average(self.team.mean(mean_D), self.section.generator.mapping.w_average_beta)

    def _micro_batches(self, real: Tensor, labels: Tensor | None) -> "Iterator[Pair]":
        for start in range(0, len(real), self.micro_batch):
            end = start + self.micro_batch
            yield real[start:end], None if labels is None else labels[start:end]

    def _learns(self, learner: nn.Module, other: nn.Module) -> None:
        """Only `learner` gets gradients: none are computed to be thrown away."""
        learner.requires_grad_(True)
        other.requires_grad_(False)

    def _start_noise(self, images: int) -> None:
        """Until its start there is no noise, and its strength does not learn."""
        if not self.section.generator.noise.start_images:
            return
        for parameter in self.late(images):
            parameter.requires_grad_(False)
        self.G.synthesis.noise_gate.fill_(0.0 if images < self.section.generator.noise.start_images else 1.0)

    def late(self, images: int) -> list[nn.Parameter]:
        """Parameters that the spec lets learn only after `images`."""
        if images >= self.section.generator.noise.start_images:
            return []
        strengths = (noise.strength for noise in self.G.synthesis.noise_inputs())
        return [strength for strength in strengths if isinstance(strength, nn.Parameter)]

    def _descend(self, network: nn.Module, optimizer: Optimizer) -> Tensor:
        """One optimizer step with the gradients at hand; returns their norm."""
        return descend(network, optimizer, self.team, half_precision=self.half_precision)

    def _ema_beta(self, images: int) -> float:
        ema = self.section.ema
        assert ema.half_life_images is not None and ema.ramp is not None
        return ema_beta(self.batch, images, ema.half_life_images, ema.ramp)

    def sample(self, count: int, seed: int) -> Tensor:
        """Images of the averaged generator, as metrics judge them: without truncation."""
        return self._draw(count, seed, truncation_psi=1.0)

    def show(self, count: int, seed: int) -> Tensor:
        """Images of the averaged generator, as people see them."""
        return self._draw(count, seed, truncation_psi=self.section.truncation_psi)

    @torch.no_grad()
    def _draw(self, count: int, seed: int, truncation_psi: float) -> Tensor:
        """Latents, labels and noise come from `seed` alone, so a picture can be drawn again on any machine."""
        drawn = []
        z = self.G.latents(count, torch.device("cpu"), generator(torch.device("cpu"), "z", seed))
        labels = self._draw_labels(count, seed)
        with seeded(self.device, "noise", seed):
            for start in range(0, count, SAMPLE_CHUNK):
                chunk = slice(start, start + SAMPLE_CHUNK)
                label = None if labels is None else labels[chunk].to(self.device)
                drawn.append(self.G_ema(z[chunk].to(self.device), label, truncation_psi=truncation_psi).clamp(-1, 1))
        return torch.cat(drawn)

    @torch.no_grad()
    def to_w(self, z_ND: Tensor, seed: int) -> Tensor:
        """w [N, K·style] of the averaged mapping network at z [N, K·latent], for labels drawn by `seed`."""
        labels = self._draw_labels(len(z_ND), seed)
        z_NKD = z_ND.unflatten(1, (self.G.synthesis.vectors, -1))
        return self.G_ema.mapping(z_NKD, None if labels is None else labels.to(self.device)).flatten(1)

    @torch.no_grad()
    def synthesise_exactly(self, w_ND: Tensor, seed: int) -> Tensor:
        """Images of the averaged generator in float32, whatever it trains in; one seed always gives the same noise."""
        synthesis = self.G_ema.synthesis
        trained_in, synthesis.precision = synthesis.precision, Precision("fp32", self.section.data.resolution)
        try:
            with seeded(self.device, "path noise", seed):
                return synthesis(self.G_ema.to_every_layer(w_ND.unflatten(1, (synthesis.vectors, -1))))
        finally:
            synthesis.precision = trained_in

    def _draw_labels(self, count: int, seed: int) -> Tensor | None:
        """Classes as often as in the data."""
        if not self.labels:
            return None
        weights = torch.tensor(self.labels, dtype=torch.float64)
        return torch.multinomial(weights, count, replacement=True, generator=generator(torch.device("cpu"), "c", seed))

    def judge(self, batch: ImageBatch, seed: int) -> Logits:
        """The discriminator on the images of `batch`, and on as many of the generator in training."""
        real, label = self._signed(batch)
        with seeded(self.device, "judge", seed):
            with torch.no_grad():
                fake = self._synthesise(len(real), label)
            return Logits(self._judged(real, label), self._judged(fake, label))

    def judgement_loss(self, logits: Logits) -> Tensor:
        """Discriminator: real up, generated down."""
        return logistic_fake(logits.fake_M) + logistic_real(logits.real_N)

    def judge_gradient(self, batch: ImageBatch) -> Tensor:
        """‖∇D(real)‖², mean over the images of `batch`: what R1 penalises, also where gamma is 0."""
        real, label = self._signed(batch)
        with seeded(self.device, "judge gradient"):
            return self._gradient_at(real, label).detach()

    def swap(self, styles: int, noises: int, seed: int) -> Tensor:
        """The same latents under the same noises, [styles, noises, C, R, R]: one image at a time, so that a seed of the
        noise means the same noise for every latent."""
        rows = [
            torch.cat([self._under_noise(self._one_latent(seed, row), noise) for noise in range(noises)])
            for row in range(styles)
        ]
        return torch.stack(rows)

    def adjust(self, *, learning_rate_factor: float, r1_gamma_factor: float) -> None:
        """Learning rates and gamma: the spec's, times these factors."""
        set_rates(self.optimizers, self.learning_rates, learning_rate_factor)
        assert isinstance(self.section.r1.gamma, float), "a resolved spec"
        self.r1_gamma = self.section.r1.gamma * r1_gamma_factor

    def _signed(self, batch: ImageBatch) -> "Pair":
        """A batch on the device: images in [-1, 1]; labels where the networks listen to them."""
        real = batch.image_NCHW.to(self.device, non_blocking=True).float() / 127.5 - 1
        labels = batch.label_N.to(self.device, non_blocking=True) if self.labels and batch.label_N is not None else None
        return real, labels

    def _one_latent(self, seed: int, row: int) -> "Latent":
        """z [1, K, latent] and its label."""
        z = self.G.latents(1, torch.device("cpu"), generator(torch.device("cpu"), "swap", seed, row))
        label = self._draw_labels(1, derived_seed("swap", seed, row))
        return z.to(self.device), None if label is None else label.to(self.device)

    @torch.no_grad()
    def _under_noise(self, latent: "Latent", noise: int) -> Tensor:
        with seeded(self.device, "swap-noise", noise):
            image: Tensor = self.G_ema(*latent)
        return image.clamp(-1, 1)

    def effective(self, images: int) -> dict[str, Any]:
        """What is in force at `images`."""
        return {
            "learning_rate.generator": self.G_optimizer.param_groups[0]["lr"],
            "learning_rate.discriminator": self.D_optimizer.param_groups[0]["lr"],
            "betas.generator": list(self.G_optimizer.param_groups[0]["betas"]),
            "betas.discriminator": list(self.D_optimizer.param_groups[0]["betas"]),
            "r1.gamma": self.r1_gamma,
            "ema.beta": self._ema_beta(images),
            "path_length.mean": float(self.path_length.mean),
            **{name: float(value) for name, value in self.augmentation.scalars().items()},
        }


Pair = tuple[Tensor, Tensor | None]
"""Real images [N, C, R, R] in [-1, 1] and their labels [N]."""
Latent = tuple[Tensor, Tensor | None]
"""z [N, K, latent] and labels [N]."""


def _discriminator(section: spec.StyleGAN2, classes: int, precision: Precision) -> Discriminator:
    shape = section.discriminator
    assert shape.channels_base is not None and shape.architecture is not None and shape.stddev_group is not None
    return Discriminator(
        section.data.resolution,
        CHANNEL_COUNT[section.data.channels],
        base=shape.channels_base,
        most=shape.channels_max,
        architecture=shape.architecture,
        stddev_group=shape.stddev_group,
        precision=precision,
        classes=classes,
    )
