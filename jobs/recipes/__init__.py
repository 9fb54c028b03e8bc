"""The systems that can be trained, one readable file each. A recipe never imports another."""

from typing import assert_never

import torch

from jobs.recipes.sketch import Sketch
from jobs.recipes.stylegan2 import StyleGAN2
from jobs.recipes.stylex import StylEx
from jobs.recipes.talking_face import TalkingFace
from jobs.recipes.translation import Translation
from jobs.spec import sketch, stylegan2, stylex, talking_face, translation
from jobs.spec.job import Job
from jobs.training.recipe import Known, Recipe


def build(job: Job, known: Known, precision: str, device: torch.device) -> Recipe:
    """The recipe of a resolved `job`, with fresh weights drawn from its seed."""
    section = job.recipe
    match section:
        case stylegan2.StyleGAN2():
            return StyleGAN2(job, known, precision, device)
        case talking_face.TalkingFace():
            return TalkingFace(job, known, precision, device)
        case translation.Translation():
            return Translation(job, known, precision, device)
        case stylex.StylEx():
            return StylEx(job, known, precision, device)
        case sketch.Sketch():
            return Sketch(job, known, precision, device)
        case _:
            assert_never(section)
