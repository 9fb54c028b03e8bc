"""How many operations a step asks of a device, by recipe; on a pretended one, so no GPU is needed.

    python -m tests.benchmarks.bench_launches [--recipes stylegan2 ...] [--precision fp32] [--most 0]

Where batches and pictures are small, a GPU is done with each before the next is launched, and the step takes as long as
the launches. The number does not depend on widths, and hardly on the machine; `--most` also names the commonest.
"""

import argparse
from collections import Counter

from jobs.training.seeds import seed_step
from tests.benchmarks.cases import SPECS, Case, noise
from tests.benchmarks.rows import say
from tests.pretend_device import AWAY, pretended

CYCLE = 16
WARMING_STEPS = 1
"""The first step also makes what is kept, such as an optimizer's state."""


def launched(case: Case) -> list[Counter[str]]:
    """Of every iteration of a cycle, the operations."""
    job = case.job()
    batch = noise(job)
    counts = []
    with pretended() as device:
        recipe = case.builder(AWAY)()
        for number in range(WARMING_STEPS + CYCLE):
            device.launched.clear()
            seed_step(0, number * case.batch)
            recipe.step(batch, number * case.batch)
            counts.append(device.launched.copy())
    return counts[WARMING_STEPS:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(SPECS), choices=SPECS)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--most", type=int, default=0, help="so many of the commonest operations, by name")
    asked = parser.parse_args()
    for name in asked.recipes:
        precision = "fp32" if name == "sketch" else asked.precision
        cycle = launched(Case(name, asked.resolution, width=16, batch=4, precision=precision))
        totals = [counts.total() for counts in cycle]
        mean, least, most = sum(totals) / len(totals), min(totals), max(totals)
        say(
            f"{name:14}{asked.resolution:4} {precision}: {mean:7.0f} operations an iteration, {least} to {most}",
            recipe=name, resolution=asked.resolution, precision=precision, mean=mean, least=least, most=most,
        )  # fmt: skip
        for operation, count in sum(cycle, Counter()).most_common(asked.most):
            print(f"    {count / len(cycle):8.1f} {operation}")


if __name__ == "__main__":
    main()
