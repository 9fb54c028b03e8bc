"""How faithfully an image is reproduced: PSNR, SSIM, MS-SSIM, L1, each per image, [N, C, H, W] in [0, 1] twice -> [N].

Translations, sketches and encoders have a target; these compare with it. SSIM is that of Wang et al. 2004 as published:
11 x 11 Gaussian of deviation 1.5, population covariance, only where the window fits, averaged over channels.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from jobs.evaluation import perceptual
from jobs.evaluation.intervals import bootstrap_mean
from jobs.evaluation.pictures import LPIPS_RESIZE, for_lpips, quantise, to_rgb
from jobs.evaluation.rows import MetricRow
from jobs.spec.evaluation import LpipsNetwork, ReconstructionMetric

WINDOW = 11
DEVIATION = 1.5
C1, C2 = 0.01**2, 0.03**2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, Section 3.2
LEAST_SIDE_OF_SCALES = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)


def l1(first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (first_NCHW - second_NCHW).abs().mean((1, 2, 3))


def psnr(first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
    """-10 log₁₀ of the mean squared difference, in dB; equal images count as 8-bit rounding would: 58.9 dB."""
    squared_N = (first_NCHW - second_NCHW).square().mean((1, 2, 3))
    return -10 * squared_N.clamp(min=1 / 255**2 / 12).log10()


def ssim(first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, Equation 13). Needs sides of 11 pixels."""
    similarity_NC, _ = _ssim_terms(first_NCHW, second_NCHW)
    return similarity_NC.mean(1)


def ms_ssim(first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
    """Multi-scale structural similarity (Wang et al. 2003, Equation 7). Needs sides of more than 160 pixels."""
    product_NC = torch.ones(first_NCHW.shape[:2], dtype=first_NCHW.dtype, device=first_NCHW.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        similarity_NC, contrast_NC = _ssim_terms(first_NCHW, second_NCHW)
        last = scale == len(SCALE_WEIGHTS) - 1
        product_NC = product_NC * (similarity_NC if last else contrast_NC).clamp(min=0) ** weight
        first_NCHW, second_NCHW = (_halved(image_NCHW) for image_NCHW in (first_NCHW, second_NCHW))
    return product_NC.mean(1)


def _halved(image_NCHW: Tensor) -> Tensor:
    odd = [side % 2 for side in image_NCHW.shape[2:]]
    return F.avg_pool2d(F.pad(image_NCHW, (0, odd[1], 0, odd[0]), mode="replicate"), 2)


def _ssim_terms(first_NCHW: Tensor, second_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the image of l·c·s and of c·s alone, [N, C] each."""
    mean_x, mean_y = _blurred(first_NCHW), _blurred(second_NCHW)
    variance_x = _blurred(first_NCHW.square()) - mean_x.square()
    variance_y = _blurred(second_NCHW.square()) - mean_y.square()
    covariance = _blurred(first_NCHW * second_NCHW) - mean_x * mean_y
    contrast = (2 * covariance + C2) / (variance_x + variance_y + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    return (luminance * contrast).mean((2, 3)), contrast.mean((2, 3))


def _blurred(image_NCHW: Tensor) -> Tensor:
    """Gaussian mean of every window that fits."""
    offsets = torch.arange(WINDOW, dtype=image_NCHW.dtype, device=image_NCHW.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * DEVIATION**2))
    weights = weights / weights.sum()
    channels = image_NCHW.shape[1]
    rows = F.conv2d(image_NCHW, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(rows, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


Pairs = Iterable[tuple[Tensor, Tensor]]
"""Batches of (target, what was made of it), both [N, C, H, W] in [-1, 1]"""


class Reconstruction:
    """Measures pairs of targets and reproductions; every metric in one pass."""

    def __init__(
        self,
        metrics: Iterable[ReconstructionMetric],
        *,
        device: torch.device,
        cache_dir: Path,
        weights_dir: Path | None = None,
        lpips: LpipsNetwork = "alex",
        seed: int = 0,
    ) -> None:
        self.metrics, self.device, self.lpips, self.seed = tuple(metrics), device, lpips, seed
        self.network = perceptual.load(lpips, weights_dir, cache_dir).to(device) if "lpips" in self.metrics else None

    def measure(self, pairs: Pairs, images: int) -> list[MetricRow]:
        """One row a metric, quantised like pictures first. `images`: real images shown so far.

        Metrics whose windows do not fit into the images (SSIM below 11 pixels, MS-SSIM up to 160) give no row.
        """
        values: dict[ReconstructionMetric, list[Tensor]] = {metric: [] for metric in self.metrics}
        with torch.inference_mode():
            for target_NCHW, made_NCHW in pairs:
                first, second = (to_rgb(quantise(x.to(self.device))) for x in (target_NCHW, made_NCHW))
                for metric in self.metrics:
                    if min(first.shape[2:]) > _least_side(metric):
                        values[metric].append(self._of(metric)(first, second).double().cpu())
        return [self._row(metric, torch.cat(parts), images) for metric, parts in values.items() if parts]

    def _of(self, metric: ReconstructionMetric) -> Callable[[Tensor, Tensor], Tensor]:
        """The measure over RGB in [0, 255]."""
        match metric:
            case "l1":
                return lambda first, second: l1(first / 255, second / 255)
            case "psnr":
                return lambda first, second: psnr(first / 255, second / 255)
            case "ssim":
                return lambda first, second: ssim(first.double() / 255, second.double() / 255)
            case "ms_ssim":
                return lambda first, second: ms_ssim(first.double() / 255, second.double() / 255)
            case "lpips":
                assert self.network is not None
                network = self.network
                return lambda first, second: network(for_lpips(first), for_lpips(second))
            case _:
                assert_never(metric)

    def _row(self, metric: ReconstructionMetric, value_N: Tensor, images: int) -> MetricRow:
        low, high = bootstrap_mean(value_N.numpy(), self.seed)
        return MetricRow(
            metric=metric,
            features=f"lpips_{self.lpips}" if metric == "lpips" else "pixels",
            value=value_N.mean().item(),
            images=images,
            samples=len(value_N),
            interval_low=low,
            interval_high=high,
            interval_kind="95 %, bootstrap over images",
            resize=LPIPS_RESIZE if metric == "lpips" else "none",
            seed=self.seed,
            note="dB" if metric == "psnr" else None,
        )


def _least_side(metric: ReconstructionMetric) -> int:
    """Sides must be longer than this."""
    match metric:
        case "l1" | "psnr" | "lpips":
            return 0
        case "ssim":
            return WINDOW - 1
        case "ms_ssim":
            return LEAST_SIDE_OF_SCALES
        case _:
            assert_never(metric)
