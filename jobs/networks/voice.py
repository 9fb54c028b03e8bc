"""What a talking face is told for each frame: the sound around it, and noise, as codes."""

import torch
from torch import Tensor, nn

from jobs.networks.plain import Norm, activation, norm_1d
from jobs.spec.layers import prime_factors


class AudioEncoder(nn.Module):
    """The window of a frame [M, C, K] -> a code in (-1, 1), [M, code].

    Samples: a convolution of 5 ms every 1 ms, then strides that are the prime factors of what is left, kernels twice as
    long, channels doubling (Vougioukas et al. 2018). Cepstra: two convolutions over time, the second one halving it.
    """

    def __init__(self, shape: tuple[int, int], rate: int, *, code: int, channels: int, active: str, norm: Norm) -> None:
        super().__init__()
        inputs, length = shape
        layers: list[nn.Module] = []
        if inputs > 1:
            layers += _convolution(inputs, 4 * channels, (3, 1, 1), active, norm)
            layers += _convolution(4 * channels, 8 * channels, (3, 2, 1), active, norm)
            layers += [nn.Flatten(), nn.Linear(8 * channels * -(-length // 2), code)]
        else:
            every, kernel = rate // 1000, rate // 200
            layers += _convolution(1, channels, (kernel, every, (kernel - every + 1) // 2), active, norm)
            wide = channels
            for stride in prime_factors(length // every):
                narrow, wide = wide, min(2 * wide, 8 * channels)
                layers += _convolution(narrow, wide, (2 * stride, stride, (stride + 1) // 2), active, norm)
            layers += [nn.Flatten(), nn.Linear(wide, code)]
        self.layers = nn.Sequential(*layers, nn.Tanh())

    def forward(self, audio_MCK: Tensor) -> Tensor:
        return self.layers(audio_MCK)


def _convolution(inputs: int, outputs: int, shape: tuple[int, int, int], active: str, norm: Norm) -> list[nn.Module]:
    return [nn.Conv1d(inputs, outputs, *shape), *norm_1d(norm, outputs), activation(active)]


class Voice(nn.Module):
    """Sound [N, T, C, K] and draws [N, T, Z] -> what is heard [N, T, A] and what is felt [N, T, Z] (None: no noise)."""

    mean_C1: Tensor
    deviation_C1: Tensor

    def __init__(
        self, encoder: AudioEncoder, *, code: int, gru_layers: int, channels: int, noise: int, smooth: bool
    ) -> None:
        super().__init__()
        self.register_buffer("mean_C1", torch.zeros(channels, 1))
        self.register_buffer("deviation_C1", torch.ones(channels, 1))
        self.encoder = encoder
        self.memory = nn.GRU(code, code, gru_layers, batch_first=True) if gru_layers else None
        self.noise = noise
        self.mood = nn.GRU(noise, noise, 1, batch_first=True) if noise and smooth else None

    @torch.no_grad()
    def fit(self, audio_NTCK: Tensor) -> None:
        """Takes mean and deviation of each channel from examples; checkpoints hold them."""
        self.mean_C1.copy_(audio_NTCK.mean((0, 1, 3))[:, None])
        self.deviation_C1.copy_(audio_NTCK.std((0, 1, 3))[:, None].clamp(min=1e-5))

    def normalised(self, audio_NTCK: Tensor) -> Tensor:
        """Each channel with mean 0 and deviation 1."""
        return (audio_NTCK - self.mean_C1) / self.deviation_C1

    def forward(self, normalised_NTCK: Tensor, draw_NTZ: Tensor | None) -> tuple[Tensor, Tensor | None]:
        count, frames = normalised_NTCK.shape[:2]
        heard_NTA = self.encoder(normalised_NTCK.flatten(0, 1)).unflatten(0, (count, frames))
        if self.memory is not None:
            heard_NTA = self.memory(heard_NTA)[0]
        if self.mood is not None:
            draw_NTZ = self.mood(draw_NTZ)[0]
        return heard_NTA, draw_NTZ if self.noise else None
