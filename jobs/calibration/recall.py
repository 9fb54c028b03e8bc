"""How far recall is from the truth, feature space by feature space: "generated" sets are data with known modes missing.

    python -m jobs.calibration.recall --work DIR [--resolution 32] [--samples 500] [--seeds 2] [--features ...]

Real images and samples are ModeGrid of 64 modes; samples come from a set of their own seed with a share of its modes
left out. Every picture is a perfect one, so that precision has nothing to find, and the true recall is the share of
real images whose mode is still there. A space whose recall is far from that is unfit to say what a generator lost.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from jobs.data.modegrid import generate, kept_modes
from jobs.evaluation.classifier import Labelled
from jobs.evaluation.features import Places, extract, open_space
from jobs.evaluation.prdc import neighbourhoods
from jobs.spec.data import ModeGrid
from jobs.spec.evaluation import FeatureSpace

K_RECALL, K_COVERAGE = 3, 5
DROPPED = (0.0, 0.25, 0.5, 0.75)
SPACES: tuple[FeatureSpace, ...] = ("pixels", "random_conv", "efficientnet_lite0", "classifier")
CLASSIFIED_IMAGES = 4_000
CHUNK = 100
Resolution = Literal[32, 64]


@dataclass(frozen=True)
class Row:
    """One feature space on one pair of sets."""

    space: str
    dropped: float
    truth: float
    recall: float
    coverage: float


def grid(resolution: Resolution, images: int, seed: int, dropped: float = 0.0) -> ModeGrid:
    """Four shapes, hues and places."""
    return ModeGrid(
        resolution=resolution, images=images, seed=seed, shapes=4, hues=4, positions=4, dropped_modes=dropped
    )


def measure(
    spaces: Sequence[FeatureSpace], resolution: Resolution, samples: int, seed: int, places: Places
) -> Iterator[Row]:
    """Every share of dropped modes in every space."""
    taught_NCHW, class_N = generate(grid(resolution, CLASSIFIED_IMAGES, 10_000))
    labelled = Labelled(taught_NCHW, class_N, f"modegrid-4-4-4-{resolution}")
    extractors = [open_space(space, torch.device("cpu"), places, labelled) for space in spaces]

    def features(images: np.ndarray) -> dict[str, torch.Tensor]:
        found = extract(torch.from_numpy(images).split(CHUNK), extractors)
        return {str(space): feature_ND for space, feature_ND in found.items()}

    real_NCHW, mode_N = generate(grid(resolution, samples, 2 * seed))
    real = features(real_NCHW)
    for dropped in DROPPED:
        section = grid(resolution, samples, 2 * seed + 1, dropped)
        truth = float(np.isin(mode_N, kept_modes(section)).mean())
        fake = features(generate(section)[0])
        for space in spaces:
            near = neighbourhoods(real[space], fake[space], K_RECALL, K_COVERAGE)
            yield Row(space, dropped, truth, float(near.recalled_N.mean()), float(near.covered_N.mean()))


def table(rows: Sequence[Row]) -> str:
    """Mean over seeds of recall and of its error, by space and by share of dropped modes."""
    lines = [
        "| features | " + " | ".join(f"{share:.0%} dropped" for share in DROPPED) + " | mean error | of coverage |"
    ]
    lines.append("|---" * (len(DROPPED) + 3) + "|")
    truths = [statistics.fmean(row.truth for row in rows if row.dropped == share) for share in DROPPED]
    lines.append("| the truth | " + " | ".join(f"{truth:.3f}" for truth in truths) + " | | |")
    for space in dict.fromkeys(row.space for row in rows):
        own = [row for row in rows if row.space == space]
        recalls = [statistics.fmean(row.recall for row in own if row.dropped == share) for share in DROPPED]
        errors = (
            statistics.fmean(abs(row.recall - row.truth) for row in own),
            statistics.fmean(abs(row.coverage - row.truth) for row in own),
        )
        cells = [*(f"{value:.3f}" for value in recalls), *(f"{error:.3f}" for error in errors)]
        lines.append(f"| {space} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m jobs.calibration.recall", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where the trained classifier is kept")
    parser.add_argument("--resolution", type=int, choices=get_args(Resolution), default=32)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--features", nargs="+", choices=get_args(FeatureSpace), default=SPACES)
    chosen = parser.parse_args()
    rows: list[Row] = []
    for seed in range(chosen.seeds):
        rows += measure(chosen.features, chosen.resolution, chosen.samples, seed, Places(chosen.work))
    sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    main()
