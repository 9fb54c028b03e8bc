"""A talking face: one still image and a voice become frames, judged singly, as a sequence, and for being in time.

An iteration: the generator makes a window of frames for every example and is told by its terms (likeness to the real
frames, and three discriminators) how to change them; then each discriminator learns from the same frames, detached.
Stages say when a term counts; a `sync` expert learns from real clips first and is then frozen.

The gradient of every term is taken where they meet, at the frames, so that the share of each costs nothing extra; their
sum goes back through the generator once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Adam

from jobs.data.clips import ClipBatch, Conditions
from jobs.errors import DataError
from jobs.losses.adversarial import logistic_fake, logistic_real
from jobs.networks.talking import generator_of, judge_of
from jobs.spec import talking_face as spec
from jobs.spec.job import Job
from jobs.spec.talking_face import ADVERSARIES, TERMS, Region, Term
from jobs.training.ema import ema_beta, frozen_copy, update_ema
from jobs.training.optimizer import set_rates
from jobs.training.probe import Judged, Logits
from jobs.training.recipe import Known, Stateful
from jobs.training.seeds import derived_seed, generator, seeded
from jobs.training.shares import Shares
from jobs.training.team import ALONE

Adversary = Literal["identity", "sequence", "sync"]
SAMPLE_CHUNK = 16
"""Windows drawn at a time when sampling; part of what a seed means, so it never depends on memory."""
FILM_CHUNK = 64
"""Frames painted at a time of a whole clip."""
FIT_WINDOWS = 64
"""Windows whose sound sets the mean and deviation that sounds are normalised by."""
SATURATED = 0.99
FIRST_SCALE = 2.0**10
"""Of losses in float16; halved where a gradient overflows, doubled after 2,000 steps without."""
_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Piece:
    """Examples on the device: images in [-1, 1], sound normalised, and what was drawn for them."""

    video_NTCHW: Tensor
    still_NCHW: Tensor
    audio_NTCK: Tensor
    misaligned_NTCK: Tensor
    draw_NTZ: Tensor
    place_NK: Mapping[str, Tensor]
    """By discriminator: the frames where what it judges begins."""
    real_N: Tensor
    fake_N: Tensor
    """Labels."""


class TalkingFace:
    """The recipe: a generator, up to three discriminators, and the order in which they are updated."""

    def __init__(self, job: Job, known: Known, precision: str, device: torch.device) -> None:
        section = job.recipe
        assert isinstance(section, spec.TalkingFace)
        assert job.training.batch is not None and job.training.micro_batch is not None, "a resolved spec"
        self.section, self.device, self.known, self.team = section, device, known, ALONE
        self.batch, self.micro_batch = job.training.batch, job.training.micro_batch
        self.window = section.data.window_frames

        torch.manual_seed(derived_seed("weights", job.seed))
        self.G = generator_of(section).to(device)
        self.adversaries: dict[str, nn.Module] = {
            name: judge_of(section, name).to(device) for name in ADVERSARIES if section.enabled(name)
        }
        if known.conditions is not None:
            self.G.voice.fit(known.conditions(FIT_WINDOWS, 0).audio_NTCK.to(device))
        self.G_ema = frozen_copy(self.G)

        rates = {name: getattr(section.discriminators, name).learning_rate for name in self.adversaries}
        self.learning_rates = {"G": section.optimizer.learning_rate, **rates}
        self.optimizers = {
            name: Adam(network.parameters(), lr=self.learning_rates[name], betas=section.optimizer.betas,
                       eps=section.optimizer.epsilon, fused=True)
            for name, network in self.networks.items()
        }  # fmt: skip
        self.rate_factor = 1.0
        self.dtype = _FORMATS.get(precision)
        self.scalers = self._make_scalers() if precision == "fp16" else {}

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"G": self.G, **self.adversaries}

    @property
    def parts(self) -> Mapping[str, Stateful]:
        optimizers = {f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()}
        return {**self.networks, "G_ema": self.G_ema, **optimizers, **self.scalers}

    @property
    def generator_ema(self) -> nn.Module:
        return self.G_ema

    def resting(self, images: int) -> frozenset[str]:
        """Names of the optimizers that make no step at `images`: the stages of their terms say so."""
        return frozenset(name for name in self.adversaries if not self.section.learns(_adversary(name), images))

    def step(self, batch: ClipBatch, images: int) -> dict[str, Tensor]:
        """One iteration on windows of clips."""
        self._set_rates(images)
        terms = [term for term in TERMS if self.section.active(term, images)]
        pieces = self.team.shares(list(self.pieces(batch, self.micro_batch)))
        scalars, fakes = self._teach_generator(pieces, terms)
        resting = self.resting(images)
        for name in self.adversaries:
            if name not in resting:
                scalars |= self._teach_judge(_adversary(name), pieces, fakes)
        for scaler in self.scalers.values():
            scaler.update()
        for network in self.networks.values():
            network.requires_grad_(True)
        update_ema(self.G_ema, self.G, self._ema_beta(images))
        return scalars

    def _teach_generator(self, pieces: Shares[Piece], terms: Sequence[Term]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Generator: like the real frames, and taken for real. Also gives its frames, detached, one tensor a piece."""
        self._learns(self.G)
        loss_K, square_K = torch.zeros(2, len(terms), device=self.device)
        fakes = []
        for piece in pieces:
            with self._autocast():
                fake = self.G(piece.still_NCHW, piece.audio_NTCK, piece.draw_NTZ)
            frames = fake.detach().float().requires_grad_(True)
            gradient = torch.zeros_like(frames)
            for at, term in enumerate(terms):
                loss = self._term(term, frames, piece) / len(pieces)
                weighted = loss * getattr(self.section.weights, term)
                (slope,) = torch.autograd.grad(self._scaled("G", weighted), frames)
                gradient += slope
                square_K[at] += slope.square().sum()
                loss_K[at] += loss.detach()
            fake.backward(gradient.to(fake.dtype))
            fakes.append(frames.detach())
        share_K = square_K.sqrt() / square_K.sqrt().sum().clamp(min=1e-30)
        scalars = {"gradient.generator": self._descend("G")}
        scalars |= {f"loss.generator.{term}": loss for term, loss in zip(terms, loss_K, strict=True)}
        scalars |= {f"share.{term}": share for term, share in zip(terms, share_K, strict=True)
                    if getattr(self.section.weights, term)}  # fmt: skip
        shown = float(sum(fake.shape[0] * fake.shape[1] for fake in fakes)) * self.team.size
        scalars["frames.generated"] = torch.full((), shown, device=self.device)
        scalars["frames.real"] = torch.full((), float(self.batch * self.window), device=self.device)
        return scalars, fakes

    def _teach_judge(self, name: Adversary, pieces: Shares[Piece], fakes: Sequence[Tensor]) -> dict[str, Tensor]:
        """A discriminator: real frames up; generated ones, and real ones out of time, down."""
        self._learns(self.adversaries[name])
        totals = torch.zeros(4, device=self.device)
        for piece, fake in zip(pieces, fakes, strict=True):
            real_NK, *refused = self.verdicts(name, piece, fake)
            loss_real = _cross_entropy(real_NK, piece.real_N)
            loss_fake = torch.stack([_cross_entropy(logit_NK, piece.fake_N) for logit_NK in refused]).mean()
            loss = (loss_real + loss_fake) / 2 / len(pieces)
            self._scaled(name, loss).backward()
            fake_mean = torch.stack([logit_NK.detach().mean() for logit_NK in refused]).mean()
            most = (real_NK.detach().abs() >= SATURATED).float().mean()
            totals += torch.stack([loss.detach() * len(pieces), real_NK.detach().mean(), fake_mean, most]) / len(pieces)
        loss, on_real, on_fake, saturated = totals.unbind()
        scalars = {f"loss.{name}": loss, f"logit.{name}.real": on_real, f"logit.{name}.fake": on_fake}
        if name == "sequence" and self.section.discriminators.sequence.architecture == "gru":
            scalars["saturated.sequence"] = saturated
        return {**scalars, f"gradient.{name}": self._descend(name)}

    def verdicts(self, name: Adversary, piece: Piece, fake_NTCHW: Tensor) -> list[Tensor]:
        """Logits on what is to be taken, then on everything that is to be refused."""
        verdicts = [self.verdict(name, piece, piece.video_NTCHW)]
        negatives = self.section.discriminators.sync.negatives if name == "sync" else "fake"
        if negatives in ("fake", "both"):
            verdicts.append(self.verdict(name, piece, fake_NTCHW))
        if negatives in ("misaligned", "both"):
            verdicts.append(self.verdict(name, piece, piece.video_NTCHW, piece.misaligned_NTCK))
        return verdicts

    def verdict(self, name: Adversary, piece: Piece, video_NTCHW: Tensor, audio_NTCK: Tensor | None = None) -> Tensor:
        """Logits [N, K] of a discriminator on frames, at the places drawn for it."""
        sections, place_NK = self.section.discriminators, piece.place_NK[name]
        with self._autocast():
            match name:
                case "identity":
                    frame = _taken(video_NTCHW, place_NK, 1)[:, 0]
                    still = piece.still_NCHW.repeat_interleave(place_NK.shape[1], dim=0)
                    logit = self.adversaries[name](frame, still)
                case "sequence":
                    frames = sections.sequence.frames or self.window
                    snippet = _taken(video_NTCHW, place_NK, frames)
                    if sections.sequence.previous == "real":
                        before = _taken(piece.video_NTCHW, place_NK, frames)[:, :-1]
                        snippet = torch.cat([before, snippet[:, -1:]], dim=1)
                    logit = self.adversaries[name](_region(snippet, sections.sequence.region))
                case "sync":
                    frames = sections.sync.frames or 1
                    snippet = _region(_taken(video_NTCHW, place_NK, frames), sections.sync.region)
                    audio = piece.audio_NTCK if audio_NTCK is None else audio_NTCK
                    logit = self.adversaries[name](snippet, _taken(audio, place_NK, frames))
        return logit.float().unflatten(0, place_NK.shape).flatten(1)

    def _term(self, term: Term, fake_NTCHW: Tensor, piece: Piece) -> Tensor:
        """What the generator minimises, without its weight."""
        if term == "l1":
            return self._unlikeness(fake_NTCHW, piece.video_NTCHW)
        logit_NK = self.verdict(term, piece, fake_NTCHW)
        return _cross_entropy(logit_NK, torch.ones_like(piece.real_N))

    def _unlikeness(self, fake_NTCHW: Tensor, real_NTCHW: Tensor) -> Tensor:
        """Mean absolute difference, of the lower half alone or with a weight of its own."""
        away = (fake_NTCHW - real_NTCHW).abs()
        half = away.shape[-2] // 2
        upper, lower = away[..., :half, :].mean(), away[..., half:, :].mean()
        match self.section.l1.region:
            case "lower":
                return lower
            case "weighted":
                weight = self.section.l1.lower_weight
                return (upper + weight * lower) / (1 + weight)
            case _:
                return (upper + lower) / 2

    def pieces(self, batch: ClipBatch, size: int) -> Iterator[Piece]:
        """The batch, `size` examples at a time; drawn for all of it first, so that `size` changes nothing."""
        count, own = len(batch.video_NTCHW), self.team.own
        whole = count * self.team.size
        noise, labels = self.section.generator.noise, self.section.labels
        draw_NTZ = own(torch.randn(whole, self.window, noise.size, device=self.device)) * noise.deviation
        places = {name: own(self._places(_adversary(name), whole)) for name in self.adversaries}
        real_N, fake_N = (own(_labels(label, whole, self.device)) for label in (labels.real, labels.fake))
        for start in range(0, count, size):
            part = slice(start, start + size)
            video, still, audio, misaligned = (x[part].to(self.device, non_blocking=True) for x in batch)
            yield Piece(
                video.float() / 127.5 - 1,
                still.float() / 127.5 - 1,
                self.G.voice.normalised(audio),
                self.G.voice.normalised(misaligned),
                draw_NTZ[part],
                {name: place[part] for name, place in places.items()},
                real_N[part],
                fake_N[part],
            )

    def _places(self, name: Adversary, count: int) -> Tensor:
        """Where a discriminator looks [N, K]: drawn for every example, or everywhere where it asks for so many."""
        sections = self.section.discriminators
        wanted, length = {
            "identity": (sections.identity.frames or 1, 1),
            "sequence": (1, sections.sequence.frames or self.window),
            "sync": (sections.sync.snippets, sections.sync.frames or 1),
        }[name]
        starts = self.window - length + 1
        if wanted >= starts:
            return torch.arange(starts, device=self.device).expand(count, -1)
        return torch.randint(0, starts, (count, wanted), device=self.device)

    def _learns(self, learner: nn.Module) -> None:
        """Only `learner` gets gradients: none are computed to be thrown away."""
        for network in self.networks.values():
            network.requires_grad_(network is learner)

    def _descend(self, name: str) -> Tensor:
        """One optimizer step with the gradients at hand; returns their norm."""
        optimizer, network = self.optimizers[name], self.networks[name]
        self.team.average_gradients(network)
        scaler = self._scaler(name)
        if scaler is not None:
            scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)  # none where a gradient left float16; the scale is lowered then
            norm = torch.where(norm.isfinite(), norm, 0.0)
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def _make_scalers(self) -> dict[str, GradScaler]:
        names = ["scaler"] if self.section.optimizer.scalers == "one" else [f"{name}_scaler" for name in self.networks]
        return {name: GradScaler(self.device.type, init_scale=FIRST_SCALE) for name in names}

    def _scaler(self, name: str) -> GradScaler | None:
        return self.scalers.get("scaler") or self.scalers.get(f"{name}_scaler")

    def _scaled(self, name: str, loss: Tensor) -> Tensor:
        scaler = self._scaler(name)
        return loss if scaler is None else scaler.scale(loss)

    def _rate(self, name: str, images: int) -> float:
        """The learning rate of a network at `images`: the spec's, what its decay has left, and a rollback's factor."""
        rate, decay = self.learning_rates[name], self.section.decay
        assert rate is not None, "a resolved spec"
        falls = decay is not None and ("generator" if name == "G" else name) in decay.networks
        return rate * self.rate_factor * (decay.left(images) if decay is not None and falls else 1.0)

    def _set_rates(self, images: int) -> None:
        set_rates(self.optimizers, {name: self._rate(name, images) for name in self.optimizers}, 1.0)

    @property
    def judges(self) -> Mapping[str, Judged]:
        """The discriminators that learn from the beginning to the end."""
        section = self.section
        whole = [name for name in self.adversaries if _adversary(name) not in section.stages]
        return {
            name: _Judge(self, _adversary(name))
            for name in whole
            if not (name == "sync" and section.discriminators.sync.expert_images)
        }

    def adjust(self, *, learning_rate_factor: float, r1_gamma_factor: float) -> None:
        """Learning rates: the spec's, times this factor."""
        self.rate_factor = learning_rate_factor

    def _ema_beta(self, images: int) -> float:
        section = self.section
        return ema_beta(self.batch, images, section.ema_half_life_images, section.ema_ramp) if images else 0.0

    def sample(self, count: int, seed: int) -> Tensor:
        """Single frames of the averaged generator, each of another window of the data: its last one."""
        given = self._conditions(count, seed)
        return torch.cat([
            self._made(given, slice(start, start + SAMPLE_CHUNK), seed, last=True)
            for start in range(0, count, SAMPLE_CHUNK)
        ])  # fmt: skip

    def show(self, count: int, seed: int) -> Tensor:
        """Windows of consecutive frames, one after the other."""
        windows = -(-count // self.window)
        given = self._conditions(windows, seed)
        made = [
            self._made(given, slice(start, start + SAMPLE_CHUNK), seed, last=False)
            for start in range(0, windows, SAMPLE_CHUNK)
        ]
        return torch.cat(made).flatten(0, 1)[:count]

    @torch.no_grad()
    def film(self, given: Conditions, seed: int) -> Tensor:
        """All frames of a clip [T, C, H, W] in [-1, 1], from its still [1, C, H, W] and sound [1, T, C, K]."""
        still, audio, draw_NTZ = self._told(given, seed)
        heard_NTA, felt_NTZ = self.G_ema.voice(audio, draw_NTZ)
        frames = [
            self.G_ema.face(still, heard_NTA[:, start : start + FILM_CHUNK],
                            None if felt_NTZ is None else felt_NTZ[:, start : start + FILM_CHUNK])[0]
            for start in range(0, audio.shape[1], FILM_CHUNK)
        ]  # fmt: skip
        return torch.cat(frames).clamp(-1, 1)

    @torch.no_grad()
    def _made(self, given: Conditions, part: slice, seed: int, *, last: bool) -> Tensor:
        some = Conditions(given.still_NCHW[part], given.audio_NTCK[part])
        make = self.G_ema.last_frames if last else self.G_ema
        return make(*self._told(some, derived_seed("part", seed, part.start))).clamp(-1, 1)

    def _told(self, given: Conditions, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Still, sound and draws on the device; draws come from `seed` alone."""
        still = given.still_NCHW.to(self.device).float() / 127.5 - 1
        audio = self.G_ema.voice.normalised(given.audio_NTCK.to(self.device))
        noise = self.section.generator.noise
        source = generator(torch.device("cpu"), "noise", seed)
        draw_NTZ = torch.randn(*audio.shape[:2], noise.size, generator=source) * noise.deviation
        return still, audio, draw_NTZ.to(self.device)

    def _conditions(self, count: int, seed: int) -> Conditions:
        if self.known.conditions is None:
            raise DataError(
                "a talking face is made from a still image and a voice, which a checkpoint does not hold",
                hint="gankiln animate CHECKPOINT STILL.png VOICE.wav --out FILE.mp4",
            )
        given: Conditions = self.known.conditions(count, seed)
        return given

    def effective(self, images: int) -> dict[str, Any]:
        """What is in force at `images`."""
        section = self.section
        terms = [term for term in TERMS if section.active(term, images)]
        return {
            **{f"learning_rate.{'generator' if n == 'G' else n}": self._rate(n, images) for n in self.optimizers},
            **{f"weight.{term}": getattr(section.weights, term) for term in terms},
            "l1.region": section.l1.region,
            "resting": sorted(self.resting(images)),
            "frames.window": self.window,
            "ema.beta": self._ema_beta(images),
        }


@dataclass(frozen=True)
class _Judge:
    """One discriminator, to be asked by those who examine the run."""

    recipe: TalkingFace
    name: Adversary

    def judge(self, batch: ClipBatch, seed: int) -> Logits:
        """On the real frames of `batch`; and on all that it is to refuse, frames of the generator in training too."""
        real_NK, *refused = self._ask(batch, seed)
        return Logits(real_NK.flatten(), torch.cat(refused).flatten())

    def judgement_loss(self, logits: Logits) -> Tensor:
        """Real up, the others down."""
        return logistic_fake(logits.fake_M) + logistic_real(logits.real_N)

    def judge_gradient(self, batch: ClipBatch) -> Tensor:
        """‖∇D(real)‖², summed over the frames of a window, mean over windows."""
        with seeded(self.recipe.device, "judge", 0):
            (piece,) = self.recipe.pieces(batch, len(batch.video_NTCHW))
        video = piece.video_NTCHW.requires_grad_(True)
        logit_NK = self.recipe.verdict(self.name, piece, video)
        (gradient,) = torch.autograd.grad(logit_NK.mean(1).sum(), video)
        return gradient.square().flatten(1).sum(1).mean()

    def _ask(self, batch: ClipBatch, seed: int) -> list[Tensor]:
        with seeded(self.recipe.device, "judge", seed):
            (piece,) = self.recipe.pieces(batch, len(batch.video_NTCHW))
        with torch.no_grad():
            fake = self.recipe.G(piece.still_NCHW, piece.audio_NTCK, piece.draw_NTZ)
        return self.recipe.verdicts(self.name, piece, fake)


def _adversary(name: str) -> Adversary:
    return next(known for known in ADVERSARIES if known == name)


def _taken(x_NTX: Tensor, place_NK: Tensor, length: int) -> Tensor:
    """`length` consecutive items from every place: [N · K, length, ...]."""
    at_NKL = place_NK[:, :, None] + torch.arange(length, device=place_NK.device)
    row_N11 = torch.arange(len(x_NTX), device=place_NK.device)[:, None, None]
    return x_NTX[row_N11, at_NKL].flatten(0, 1)


def _region(video_NTCHW: Tensor, region: Region) -> Tensor:
    half = video_NTCHW.shape[-2] // 2
    match region:
        case "full":
            return video_NTCHW
        case "upper":
            return video_NTCHW[..., :half, :]
        case "lower":
            return video_NTCHW[..., half:, :]


def _labels(label: float | tuple[float, float], count: int, device: torch.device) -> Tensor:
    """A label for every example: one number, or drawn from a range."""
    low, high = label if isinstance(label, tuple) else (label, label)
    return low + (high - low) * torch.rand(count, device=device)


def _cross_entropy(logit_NK: Tensor, label_N: Tensor) -> Tensor:
    """-y log σ(logit) - (1 - y) log(1 - σ(logit)), mean over everything (Goodfellow et al. 2014)."""
    return F.binary_cross_entropy_with_logits(logit_NK, label_N[:, None].expand_as(logit_NK))
