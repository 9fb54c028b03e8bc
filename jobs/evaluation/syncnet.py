"""Whether lips are in time with sound, as SyncNet says it (Chung and Zisserman 2016; Prajwal et al. 2020).

Five frames of the lower half of a face and the 20 cepstra heard with them become one vector each; the nearer the two,
the better in time. Over shifts of the sound: LSE-D is the least mean distance, LSE-C the median less the least, the
offset the shift where it is least.

The network is trained on the job's own clips, so its numbers compare runs on the same data and nothing else: they stand
under `syncnet_own`. Vectors have length 1, so distances are within 0 and 2.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jobs.data.clips import Clip
from jobs.data.sound import heard_by_syncnet
from jobs.evaluation.cache import keep
from jobs.evaluation.lips import Film

WINDOW = 5
"""Frames seen at a time."""
SIDE = 32
"""Frames are averaged down to at most so many columns."""
MOST_SHIFT = 15
STEPS, CLIPS, MOMENTS = 500, 4, 16
"""Of training: steps, clips in each, windows of each clip, which must find their own sound among all of theirs."""
STEPS_A_CLIP = 5
"""A small set is not shown more often."""
LEARNING_RATE, TEMPERATURE = 2e-3, 0.1
VERSION = 1


class SyncNet(nn.Module):
    """Frames [N, 5 · C, h, w] in [-1, 1] and cepstra [N, 13, K], each to [N, 64] of length 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eye = nn.Sequential(
            nn.Conv2d(WINDOW * channels, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, 64),
        )  # fmt: skip
        self.ear = nn.Sequential(
            nn.Conv1d(13, 64, 3, 1, 1), nn.ReLU(), nn.Conv1d(64, 64, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(8),
            nn.Flatten(), nn.Linear(64 * 8, 64),
        )  # fmt: skip

    def see(self, frames_NCHW: Tensor) -> Tensor:
        return F.normalize(self.eye(frames_NCHW), dim=1)

    def hear(self, cepstra_NCK: Tensor) -> Tensor:
        return F.normalize(self.ear(cepstra_NCK / 20), dim=1)  # cepstra are of the size of 20


class Sync(NamedTuple):
    """How well in time a film is."""

    distance: float
    """LSE-D."""
    confidence: float
    """LSE-C."""
    offset_frames: int
    """By how many frames the sound comes late."""


@dataclass(frozen=True)
class Hearing:
    """How the sound of the job's clips is read."""

    rate: int
    fps: int


def open_syncnet(
    clips: Sequence[Clip], hearing: Hearing, digest: str, cache_dir: Path, device: torch.device
) -> SyncNet:
    """The network of these clips, from the cache or trained now; `digest` names the data."""
    channels = clips[0].frames_TCHW.shape[1]
    key = hashlib.sha256(json.dumps([digest, VERSION, STEPS]).encode()).hexdigest()[:32]
    path = cache_dir / f"syncnet-{key}.safetensors"
    if (stored := _read(path, channels)) is not None:
        return stored.to(device)
    trained = train(clips, hearing, device)
    state = {name: tensor.cpu().contiguous() for name, tensor in trained.state_dict().items()}
    keep(path, lambda aside: save_file(state, aside))
    return trained


def train(clips: Sequence[Clip], hearing: Hearing, device: torch.device) -> SyncNet:
    """Each window must find its own sound among those of its clip, and each sound its window (InfoNCE)."""
    rng = np.random.RandomState(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SyncNet(clips[0].frames_TCHW.shape[1]).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(min(STEPS, STEPS_A_CLIP * len(clips))):
        losses = []
        for which in rng.randint(0, len(clips), CLIPS):
            frames, cepstra = _windows(clips[which], np.asarray(clips[which].frames_TCHW), hearing)
            moments = torch.from_numpy(rng.permutation(len(frames))[:MOMENTS])
            seen, heard = network.see(frames[moments].to(device)), network.hear(cepstra[moments].to(device))
            logits = seen @ heard.T / TEMPERATURE
            own = torch.arange(len(moments), device=device)
            losses.append(F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    return network.eval()


@torch.inference_mode()
def measure(network: SyncNet, clip: Clip, film_TCHW: Film, hearing: Hearing) -> Sync:
    """Of `film`, which was made to the sound of `clip`."""
    device = next(network.parameters()).device
    frames, cepstra = _windows(clip, film_TCHW, hearing)
    seen_WD, heard_WD = network.see(frames.to(device)).cpu(), network.hear(cepstra.to(device)).cpu()
    return score(seen_WD.numpy(), heard_WD.numpy())


def score(seen_WD: np.ndarray, heard_WD: np.ndarray) -> Sync:
    """Mean distance for each shift, over the windows that have a partner there; what follows from them."""
    count = len(seen_WD)
    most = min(MOST_SHIFT, count // 2)
    shifts = np.arange(-most, most + 1)
    means = np.array([_distance(seen_WD, heard_WD, int(shift)) for shift in shifts])
    return Sync(float(means.min()), float(np.median(means) - means.min()), int(shifts[means.argmin()]))


def _distance(seen_WD: np.ndarray, heard_WD: np.ndarray, shift: int) -> float:
    """Mean distance of what is seen to what is heard `shift` frames later."""
    count = len(seen_WD) - abs(shift)
    seen, heard = max(-shift, 0), max(shift, 0)
    return float(np.linalg.norm(seen_WD[seen : seen + count] - heard_WD[heard : heard + count], axis=1).mean())


def _windows(clip: Clip, film_TCHW: Film, hearing: Hearing) -> tuple[Tensor, Tensor]:
    """Every five frames of the lower half [W, 5 · C, h, w], and their cepstra [W, 13, K]."""
    frames = len(film_TCHW)
    sound = heard_by_syncnet(clip.waveform_S, frames, hearing.rate, hearing.fps, WINDOW)
    cepstra = torch.from_numpy(sound.windows(WINDOW // 2, frames - WINDOW // 2))
    lower = torch.from_numpy(np.ascontiguousarray(film_TCHW[:, :, film_TCHW.shape[2] // 2 :])).float() / 127.5 - 1
    if lower.shape[-1] > SIDE:
        lower = F.interpolate(lower, (SIDE // 2, SIDE), mode="area")
    starts = range(frames - WINDOW + 1)
    return torch.stack([lower[start : start + WINDOW].flatten(0, 1) for start in starts]), cepstra


def _read(path: Path, channels: int) -> SyncNet | None:
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 a safe_open is no mapping
        network = SyncNet(channels)
        network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError):
        return None
    return network.eval()
