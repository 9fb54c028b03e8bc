"""The systems that can be trained, one readable file each. A recipe never imports another."""

import torch

from jobs.recipes.stylegan2 import StyleGAN2
from jobs.spec.job import Job
from jobs.training.recipe import Recipe


def build(job: Job, labels: list[int], precision: str, device: torch.device) -> Recipe:
    """The recipe of a resolved `job`, with fresh weights drawn from its seed.

    `labels` counts the training images of each class, empty where the data has no labels.
    """
    return StyleGAN2(job, labels, precision, device)
