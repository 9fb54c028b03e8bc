"""Images per second of the StyleGAN2 training step, lazy regularisation included, and the ratio to a peer in one run.

    python -m tests.benchmarks.bench_step [--seconds 10] [--precision fp32 bf16] [--resolution 32 64]
                                          [--widths demo auto] [--json]

Whole cycles of 16 iterations are timed (path length every 4th, R1 every 16th), so that the figure is what a run sees.
The peers are timed in the same process where they are installed: NVIDIA's own networks (StyleGAN2-ADA), which the PyPI
package draggan carries (`pip install --no-deps draggan requests click`), and stylegan2_pytorch.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from unittest import mock

import torch

from jobs import recipes
from jobs.data import ImageBatch
from jobs.spec import load
from jobs.training.allocator import keep_freed_memory
from jobs.training.recipe import Known
from jobs.training.seeds import seed_step
from tests import torchvision_on_cpu
from tests.benchmarks import official_stylegan2

CYCLE = 16
WIDTHS = {
    "auto": "{}",
    "demo": "{latent: 128, style: 128, channels_base: 512, channels_max: 128}",
}
"""The preset's own widths (512 maps up to 32x32), and those of the demo."""
OFFICIAL, LUCIDRAINS = PEERS = ("NVIDIA's networks", "stylegan2_pytorch")


@dataclass(frozen=True)
class Measured:
    name: str
    resolution: int
    batch: int
    precision: str
    images_per_second: float


def spec(resolution: int, batch: int, widths: str, path_length: bool) -> str:
    return f"""
name: bench
recipe:
  kind: stylegan2
  preset: auto
  data: {{kind: folder, path: unused, resolution: {resolution}}}
  generator: {widths}
  path_length: {{weight: {2 if path_length else 0}}}
training: {{images: 1000000, batch: {batch}}}
"""


def measure(name: str, text: str, precision: str, seconds: float) -> Measured:
    job = load(text, name).job
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory(device)  # as a job does; peers are timed before, as they are
    recipe = recipes.build(job, Known(), precision, device)
    batch, resolution = job.training.batch or 1, job.recipe.data.resolution
    image = torch.randint(0, 256, (batch, 3, resolution, resolution), dtype=torch.uint8)

    def iteration(number: int) -> None:
        seed_step(0, number * batch)
        scalars = recipe.step(ImageBatch(image, None), number * batch)
        if number % CYCLE == CYCLE - 1:
            float(scalars["loss.discriminator"])  # waits for the device

    return Measured(name, resolution, batch, precision, cycles(iteration, batch, seconds))


def cycles(iteration: Callable[[int], None], batch: int, seconds: float, cycle: int = CYCLE) -> float:
    """Images per second of whole cycles; the first, which warms up, is not counted."""
    started, done = 0.0, 0
    while True:
        for _ in range(cycle):
            iteration(done)
            done += 1
        if started == 0.0:
            started = time.perf_counter()
        elif (taken := time.perf_counter() - started) >= seconds:
            return (done - cycle) * batch / taken


def official(resolution: int, batch: int, seconds: float) -> Measured | None:
    """NVIDIA's own networks; on a CPU, as their kernels for GPUs are built from another version's sources."""
    networks = None if torch.cuda.is_available() else official_stylegan2.networks()
    if networks is None:
        return None
    training = official_stylegan2.Training(networks, resolution, batch)
    return Measured(OFFICIAL, resolution, batch, "fp32", cycles(training.iteration, batch, seconds))


def peer(resolution: int, batch: int, seconds: float) -> Measured | None:
    """lucidrains' stylegan2_pytorch at equal width (512 maps), with its hinge loss and no lazy terms: in its favour.

    The package asserts a GPU and a metrics server when it is imported; neither has a part in its networks.
    """
    torchvision_on_cpu.declare()
    import torch._dynamo  # what is first imported below is forgotten, and torch registers its operators only once

    with mock.patch("torch.cuda.is_available", return_value=True), mock.patch.dict(sys.modules, {"aim": mock.Mock()}):
        try:
            from stylegan2_pytorch import stylegan2_pytorch as theirs  # type: ignore[import-not-found]
        except ImportError:
            return None
    mapping = theirs.StyleVectorizer(512, 8, lr_mul=0.1)
    generator = theirs.Generator(resolution, 512, network_capacity=256)
    judge = theirs.Discriminator(resolution, network_capacity=256)
    g_optimizer = torch.optim.Adam([*mapping.parameters(), *generator.parameters()], lr=2e-4, betas=(0.5, 0.9))
    d_optimizer = torch.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.9))
    real = torch.rand(batch, 3, resolution, resolution)

    def fakes() -> torch.Tensor:
        w = mapping(torch.randn(batch, 512))
        noise = torch.rand(batch, resolution, resolution, 1)
        return generator(w[:, None].expand(-1, generator.num_layers, -1), noise)

    def iteration() -> None:
        d_loss = (torch.relu(1 + judge(real)[0]) + torch.relu(1 - judge(fakes().detach())[0])).mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        judge(fakes())[0].mean().backward()
        g_optimizer.step()

    rate = cycles(lambda _number: iteration(), batch, seconds, cycle=1)  # all its iterations are alike
    return Measured(LUCIDRAINS, resolution, batch, "fp32", rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--resolution", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--widths", nargs="+", choices=WIDTHS, default=list(WIDTHS))
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    results = []
    for resolution in chosen.resolution:
        for other in (official, peer) if "auto" in chosen.widths else ():
            if found := other(resolution, chosen.batch, chosen.seconds):
                results.append(found)
        for precision in chosen.precision:
            for name in chosen.widths:
                text = spec(resolution, chosen.batch, WIDTHS[name], path_length=name == "auto")
                results.append(measure(name, text, precision, chosen.seconds))
    if chosen.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    rates = {(result.name, result.resolution): result.images_per_second for result in results}
    for result in results:
        known = [(name, rates.get((name, result.resolution))) for name in PEERS if name != result.name]
        ratio = "".join(f"  x{result.images_per_second / rate:.2f} of {name}" for name, rate in known if rate)
        size = f"{result.resolution}x{result.resolution} batch {result.batch} {result.precision}"
        print(f"{result.name:20} {size:28} {result.images_per_second:8.2f} images/s{ratio}")


if __name__ == "__main__":
    main()
