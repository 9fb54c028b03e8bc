"""One spec a recipe, at any resolution and width, and batches of noise in the shapes that it takes: no data is needed.

What benchmarks and the test of predicted memory share.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from torch import Tensor

from jobs import recipes
from jobs.data import ImageBatch
from jobs.data.clips import ClipBatch
from jobs.data.pairs import PairBatch
from jobs.data.sketches import SketchBatch
from jobs.networks.classifier import ImageClassifier
from jobs.spec import Job, load
from jobs.spec.data import CHANNEL_COUNT
from jobs.spec.sketch import Sketch
from jobs.spec.stylegan2 import StyleGAN2
from jobs.spec.stylex import StylEx
from jobs.spec.talking_face import TalkingFace
from jobs.spec.translation import Translation
from jobs.systems import Beforehand, stylex
from jobs.training.recipe import Known, Recipe

SPECS = {
    "stylegan2": """
      kind: stylegan2
      data: {{kind: folder, path: unused, resolution: {resolution}}}
      generator: {{latent: {width}, style: {width}, channels_max: {width}}}
      discriminator: {{channels_max: {width}}}
    """,
    "stylex": """
      kind: stylex
      data: {{kind: folder, path: unused, resolution: {resolution}, labels: true}}
      classifier: {{input_side: {seen}}}
      generator: {{latent: {width}, style: {width}, channels_max: {width}}}
      encoder: {{channels_max: {width}}}
      discriminator: {{channels_max: {width}}}
    """,
    "translation": """
      kind: translation
      data: {{kind: domains, a: unused, b: unused, resolution: {resolution}}}
      generator:
        layers: "conv(d{half},k7) -> conv(d{width},k3,s2) -> residual(3) -> up(1) -> final(k7)"
      discriminator:
        layers: "conv(d{half},k4,s2,norm=none) -> conv(d{width},k4,s2) -> final(k4,p1)"
    """,
    "talking_face": """
      kind: talking_face
      data: {{kind: clips, path: unused, resolution: {resolution}, window_frames: 4, offset_frames: 4}}
      preset: per_frame
      generator: {{channels: {half}, channels_max: {width}}}
      discriminators: {{sync: {{frames: 3}}}}
    """,
    "sketch": """
      kind: sketch
      data: {{kind: toybirds, part: eye, resolution: {resolution}}}
      growth: {{kind: none}}
      encoder: {{channels: {half}, channels_max: {width}}}
      generator: {{channels_max: {width}}}
      discriminator: {{channels_max: {width}}}
      loss: {{r1: {{gamma: 1, interval: 16}}}}
    """,
}
"""What each varies: `resolution`; `width`, the most maps of a layer; `half` of it; pixels `seen` by a classifier."""


@dataclass(frozen=True)
class Case:
    """A recipe at one size."""

    recipe: str
    resolution: int = 32
    width: int = 64
    batch: int = 8
    micro_batch: int | None = None
    precision: str = "fp32"
    changes: str = ""
    """More keys of its section, as YAML."""

    def job(self) -> Job:
        """The resolved job."""
        sizes = {"resolution": self.resolution, "width": self.width, "half": self.width // 2}
        section = SPECS[self.recipe].format(**sizes, seen=min(self.resolution, 64))
        micro = f", micro_batch: {self.micro_batch}" if self.micro_batch else ""
        more = "".join(f"      {line}\n" for line in self.changes.splitlines())
        training = f"images: 1000000, batch: {self.batch}, precision: {self.precision}{micro}"
        text = f"name: bench\nrecipe:{section.rstrip()}\n{more}training: {{{training}}}\n"
        return load(text, f"{self.recipe} at {self.resolution}").job

    def builder(self, device: torch.device) -> Callable[[], Recipe]:
        """What makes the recipe, untrained, as often as it is called."""
        job = self.job()
        return lambda: recipes.build(job, known_of(job, device), self.precision, device)


def known_of(job: Job, device: torch.device) -> Known:
    """What a recipe knows of data that are not there: two classes for a StylEx, with an untrained classifier."""
    section = job.recipe
    if not isinstance(section, StylEx):
        return Known()
    torch.manual_seed(0)
    classifier = ImageClassifier(section.classifier, 2).to(device).eval().requires_grad_(False)
    given: Any = Beforehand(job, None, device, None, None, None, print)  # type: ignore[arg-type]
    distance = stylex.perceptual_distance(section.reconstruction.perceptual, classifier, given)
    return Known((100, 100), classifier=classifier, perceptual=distance)


def noise(job: Job, seed: int = 0) -> Any:
    """A batch as the recipe's `step` takes it, of noise."""
    section, count = job.recipe, job.training.batch or 1
    rng = torch.Generator().manual_seed(seed)

    def pictures(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)

    side = section.data.resolution
    match section:
        case StyleGAN2():
            return ImageBatch(pictures(count, CHANNEL_COUNT[section.data.channels], side, side), None)
        case StylEx():
            label = torch.randint(0, 2, (count,), generator=rng)
            return ImageBatch(pictures(count, CHANNEL_COUNT[section.data.channels], side, side), label)
        case Translation():
            return PairBatch(*(pictures(count, 3, side, side) for _ in "ab"))
        case TalkingFace():
            frames, channels = section.data.window_frames, CHANNEL_COUNT[section.data.channels]
            heard = (count, frames, *section.data.audio_shape)
            audio = [torch.randn(heard, generator=rng) for _ in range(2)]
            return ClipBatch(
                pictures(count, frames, channels, side, side), pictures(count, channels, side, side), *audio
            )
        case Sketch():
            parts = len(section.data.part_names)
            following = torch.randint(0, parts + 1, (count,), generator=rng)
            drawn = [pictures(count, many, side, side) for many in (1, parts, parts)]
            return SketchBatch(*drawn, following)
        case _:
            assert_never(section)
