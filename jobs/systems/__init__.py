"""What only one system measures, shows and is watched for; one file a system. `Judge` and `Watch` ask, and say it."""

from typing import assert_never

from jobs.spec.sketch import Sketch
from jobs.spec.stylegan2 import StyleGAN2
from jobs.spec.stylex import StylEx
from jobs.spec.talking_face import TalkingFace
from jobs.spec.translation import Translation
from jobs.systems import stylex
from jobs.systems.sketch import SketchSystem
from jobs.systems.stylegan2 import StyleGAN2System
from jobs.systems.stylex import StylExSystem
from jobs.systems.system import Beforehand, Surroundings, System
from jobs.systems.talking_face import TalkingFaceSystem
from jobs.systems.translation import TranslationSystem
from jobs.training.recipe import Known


def system_of(around: Surroundings) -> System:
    """The system of a job's recipe."""
    section = around.job.recipe
    match section:
        case StyleGAN2():
            return StyleGAN2System(around)
        case TalkingFace():
            return TalkingFaceSystem(around)
        case Translation():
            return TranslationSystem(around)
        case StylEx():
            return StylExSystem(around)
        case Sketch():
            return SketchSystem(around)
        case _:
            assert_never(section)


def known_of(known: Known, given: Beforehand) -> Known:
    """`known` of the data, and what else the job's recipe must know before it is built."""
    section = given.job.recipe
    match section:
        case StyleGAN2() | TalkingFace() | Translation() | Sketch():
            return known
        case StylEx():
            return stylex.known_of(section, known, given)
        case _:
            assert_never(section)


__all__ = ["Beforehand", "Surroundings", "System", "known_of", "system_of"]
