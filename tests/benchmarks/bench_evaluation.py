"""The table against torch-fidelity, torchmetrics and prdc in one run: same features, values beside times.

    pip install --no-deps torch-fidelity==0.4.0 torchmetrics==1.9.0 lightning-utilities prdc==0.2
    python -m tests.benchmarks.bench_evaluation [--images 10000] [--dimensions 2048] [--threads 2] [--json]

Features are non-negative and of Inception's size; extraction, the same work for everybody, is left out. "fid" stands
for the Fréchet distance, which is all that is computed of it. Where a machine is shared, read the CPU seconds and use
one thread: threads that wait for one another burn time.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import threadpoolctl
import torch

from jobs.evaluation import frechet, kid, prdc
from tests.torchvision_on_cpu import declare

K_PRECISION, K_DENSITY = 3, 5


@dataclass(frozen=True)
class Timed:
    who: str
    metric: str
    values: tuple[float, ...]
    seconds: float
    cpu_seconds: float


def features(images: int, dimensions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets that overlap: rectified, correlated, the second with another mean and spread."""
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(dimensions, dimensions, generator=rng) / dimensions**0.5
    real, fake = torch.randn(2, images, dimensions, generator=rng)
    return (real @ mixing + 0.2).clamp(min=0), (1.05 * fake @ mixing + 0.22).clamp(min=0)


def timed(who: str, metric: str, compute: Callable[[], tuple[float, ...]]) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    values = compute()
    result = Timed(who, metric, values, time.perf_counter() - wall, time.process_time() - cpu)
    shown = " ".join(f"{value:.7g}" for value in values)
    print(f"{who:15} {metric:22} {result.seconds:8.1f} s {result.cpu_seconds:8.1f} cpu-s   {shown}", flush=True)
    return result


def ours(real: torch.Tensor, fake: torch.Tensor) -> list[Timed]:
    def balls() -> tuple[float, ...]:
        found = prdc.neighbourhoods(real, fake, K_PRECISION, K_DENSITY)
        outcomes = (found.precise_M, found.recalled_N, found.dense_M, found.covered_N)
        return tuple(outcome.mean().item() for outcome in outcomes)

    def kernel() -> tuple[float, ...]:
        values = kid.kernel_distances(real, fake, subsets=100, subset_images=min(1000, len(real)), seed=2020)
        return float(values.mean()), float(values.std())

    return [
        timed("gankiln", "fid", lambda: (frechet.frechet_distance(real, fake),)),
        timed("gankiln", "kid", kernel),
        timed("gankiln", "precision recall", lambda: balls()[:2]),
        timed("gankiln", "all four, k 3 and 5", balls),
    ]


def torch_fidelity(real: torch.Tensor, fake: torch.Tensor) -> list[Timed]:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    def fid() -> tuple[float, ...]:
        statistics = [fid_features_to_statistics(features_ND) for features_ND in (real, fake)]
        return (fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"],)

    def kernel() -> tuple[float, ...]:
        found = kid_features_to_metric(real, fake, kid_subsets=100, kid_subset_size=min(1000, len(real)), verbose=False)
        return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]

    def balls() -> tuple[float, ...]:
        found = prc_features_to_metric(fake, real, prc_neighborhood=K_PRECISION, verbose=False)
        return float(found["precision"]), float(found["recall"])

    return [
        timed("torch-fidelity", "fid", fid),
        timed("torch-fidelity", "kid", kernel),
        timed("torch-fidelity", "precision recall", balls),
    ]


def torchmetrics(real: torch.Tensor, fake: torch.Tensor) -> list[Timed]:
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    def statistics(features_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        double = features_ND.double()
        total, count = double.sum(0), len(double)
        mean = total / count
        return mean, (double.T @ double - count * mean[:, None] @ mean[None]) / (count - 1)

    def kernel() -> tuple[float, ...]:
        size = min(1000, len(real))
        draws = ((real[torch.randperm(len(real))[:size]], fake[torch.randperm(len(fake))[:size]]) for _ in range(100))
        values = torch.stack([poly_mmd(*pair) for pair in draws])
        return values.mean().item(), values.std(correction=0).item()

    def fid() -> tuple[float, ...]:
        (mean_a, covariance_a), (mean_b, covariance_b) = statistics(real), statistics(fake)
        return (_compute_fid(mean_a, covariance_a, mean_b, covariance_b).item(),)

    return [timed("torchmetrics", "fid", fid), timed("torchmetrics", "kid", kernel)]


def prdc_package(real: torch.Tensor, fake: torch.Tensor) -> list[Timed]:
    from prdc import compute_prdc

    def balls() -> tuple[float, ...]:
        found = compute_prdc(real.numpy(), fake.numpy(), nearest_k=K_DENSITY)
        return found["density"], found["coverage"]

    return [timed("prdc", "density coverage (k 5)", balls)]


def summary(results: list[Timed]) -> str:
    """Our table against the fastest of theirs for each part of it, in CPU seconds."""
    mine = {row.metric: row.cpu_seconds for row in results if row.who == "gankiln"}
    theirs = {
        metric: min(row.cpu_seconds for row in results if row.who != "gankiln" and row.metric == metric)
        for metric in {row.metric for row in results if row.who != "gankiln"}
    }
    our_total = mine["fid"] + mine["kid"] + mine["all four, k 3 and 5"]
    their_total = sum(theirs.values())
    return (
        f"fid + kid + precision, recall, density, coverage: {our_total:.1f} cpu-s against {their_total:.1f} of the "
        f"fastest of the others for each part ({our_total / their_total:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threadpoolctl.threadpool_limits(options.threads)
    declare()
    real, fake = features(options.images, options.dimensions)
    results: list[Timed] = []
    for library in (ours, torch_fidelity, torchmetrics, prdc_package):
        try:
            results += library(real, fake)
        except ImportError as missing:
            print(f"{library.__name__}: not installed ({missing.name})")
    if any(row.who != "gankiln" for row in results):
        print(summary(results))
    if options.json:
        print(json.dumps([asdict(row) for row in results]))


if __name__ == "__main__":
    main()
