"""Step time and peak memory of every way for a style to enter a convolution, relative to StyleGAN2's modulation.

    python -m tests.benchmarks.bench_injection [--channels 32] [--resolution 32] [--batch 16] [--cycles 1] [--rounds 2]

Whole cycles of 16 iterations are timed, path length and R1 included: what a run sees. Each way runs in a process of its
own, so that its peak memory is its own; the first cycle warms up and is not timed. Without a GPU it is processor time
that counts, and the fastest of interleaved rounds: what else a shared machine does only ever adds.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from jobs import recipes
from jobs.data import ImageBatch
from jobs.spec import load
from jobs.training.recipe import Known
from jobs.training.seeds import seed_step

CYCLE = 16
PLAIN = "adain_sg2"
WAYS = {
    PLAIN: {"kind": "adain_sg2"},
    "adain_sg2 fused": {"kind": "adain_sg2", "fused": True},
    "style_matrix K=1 baked": {"kind": "style_matrix", "k": 1},
    "style_matrix K=C baked": {"kind": "style_matrix"},
    "style_matrix K=C baked, fused": {"kind": "style_matrix", "fused": True},
    "style_matrix K=C unbaked": {"kind": "style_matrix", "baked": False},
    "style_matrix K=C unbaked, no demod": {"kind": "style_matrix", "baked": False, "demod_on": "none"},
    "style_matrix K=C baked 3x3": {"kind": "style_matrix", "kernel": 3},
    "style_matrix K=4 lowrank": {"kind": "style_matrix", "k": 4, "layout": "lowrank"},
    "adaconv": {"kind": "adaconv"},
    "adaconv baked": {"kind": "adaconv", "baked": True},
}


def spec(injection: dict[str, object], channels: int, resolution: int, batch: int) -> str:
    """Every layer has `channels` maps, as at the preset's own widths up to 32x32 pixels."""
    base = channels * resolution
    return f"""
name: bench
recipe:
  kind: stylegan2
  preset: auto
  data: {{kind: folder, path: unused, resolution: {resolution}}}
  generator:
    {{latent: {channels}, style: {channels}, channels_base: {base}, channels_max: {channels},
      injection: {json.dumps(injection)}}}
training: {{images: 1000000, batch: {batch}}}
"""


def measure(text: str, cycles: int) -> tuple[float, int]:
    """Milliseconds a step, and the most bytes in use at once while it ran."""
    job = load(text, "bench").job
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = recipes.build(job, Known(), "fp32", device)
    batch, resolution = job.training.batch or 1, job.recipe.data.resolution
    image = torch.randint(0, 256, (batch, 3, resolution, resolution), dtype=torch.uint8)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    images, seconds = 0, 0.0
    for cycle in range(cycles + 1):
        started = clock()
        for _ in range(CYCLE):
            seed_step(0, images)
            scalars = recipe.step(ImageBatch(image, None), images)
            images += batch
        float(scalars["loss.discriminator"])  # waits for the device
        seconds += clock() - started if cycle else 0.0
    if device.type == "cuda":
        return 1000 * seconds / (cycles * CYCLE), torch.cuda.max_memory_allocated()
    return 1000 * seconds / (cycles * CYCLE), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_its_own_process(way: str, chosen: argparse.Namespace) -> tuple[float, int]:
    arguments = [
        f"--{name}={getattr(chosen, name)}" for name in ("channels", "resolution", "batch", "cycles", "threads")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_injection", "--only", way, *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    milliseconds, peak_bytes = json.loads(done.stdout)
    return milliseconds, peak_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--cycles", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        torch.set_num_threads(chosen.threads)
        text = spec(WAYS[chosen.only], chosen.channels, chosen.resolution, chosen.batch)
        print(json.dumps(measure(text, chosen.cycles)))
        return
    found: dict[str, list[tuple[float, int]]] = {way: [] for way in dict.fromkeys([PLAIN, *chosen.ways])}
    for _ in range(chosen.rounds):
        for way, results in found.items():
            results.append(in_its_own_process(way, chosen))
    best = {way: (min(ms for ms, _ in results), min(peak for _, peak in results)) for way, results in found.items()}
    size = f"{chosen.channels} maps, {chosen.resolution}x{chosen.resolution}, batch {chosen.batch}, fp32"
    print(f"torch {torch.__version__}, {chosen.threads} threads; {size}; relative to {PLAIN}")
    for way, (milliseconds, peak_bytes) in best.items():
        slower, larger = milliseconds / best[PLAIN][0], peak_bytes / best[PLAIN][1]
        peak = f"peak {peak_bytes / 1e6:7.0f} MB  x{larger:.2f}"
        print(f"{way:36} {milliseconds:9.1f} ms/step  x{slower:.2f}   {peak}")


if __name__ == "__main__":
    main()
