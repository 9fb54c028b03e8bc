"""How large the networks of a spec are: parameters and memory, in closed form, without building them.

The parameter counts are exact (tests hold them against the built networks). Memory is what the heaviest phase of a step
takes: weights, gradients, Adam's two moments and the average, and the activations that its backward pass keeps. It is
counted as float32 keeps it on a CPU; tests hold it to 15 % of what lives at once in real steps.
"""

from typing import assert_never

from jobs.spec import sketch_size, stylegan2_size, stylex_size, talking_face_size, translation_size
from jobs.spec.job import Job, Recipe
from jobs.spec.layers import Size
from jobs.spec.sketch import Sketch
from jobs.spec.stylegan2 import StyleGAN2
from jobs.spec.stylex import StylEx
from jobs.spec.talking_face import TalkingFace
from jobs.spec.translation import Translation


def size(job: Job) -> Size:
    """Parameters by network, and the memory of a training step on one device, of a resolved job."""
    training = job.training
    assert training.batch is not None and training.micro_batch is not None, "a resolved spec"
    number_bytes = 2 if training.precision in ("bf16", "fp16") else 4
    return _size(job.recipe).of(training.share, training.micro_batch, number_bytes)


def _size(recipe: Recipe) -> Size:
    match recipe:
        case StyleGAN2():
            return stylegan2_size.size(recipe)
        case TalkingFace():
            return talking_face_size.size(recipe)
        case Translation():
            return translation_size.size(recipe)
        case StylEx():
            return stylex_size.size(recipe)
        case Sketch():
            return sketch_size.size(recipe)
        case _:
            assert_never(recipe)


def fitting_advice(job: Job, limit_bytes: int) -> str:
    """What would fit into `limit_bytes`, by the estimate above: smaller images, or narrower networks."""
    assert job.training.micro_batch is not None, "a resolved spec"
    one = job.model_copy(update={"training": job.training.model_copy(update={"micro_batch": 1})})
    weight, side = size(one), job.recipe.data.resolution
    if weight.states_bytes >= limit_bytes:
        return (
            f"weights, gradients, moments and averages alone take about {weight.states_bytes / 1e6:,.0f} MB: fewer "
            "channels, or a device with more memory"
        )
    kept = weight.memory_bytes - weight.states_bytes
    sides = [side // 2**step for step in range(1, 8) if side // 2**step >= 8]
    fitting = [s for s in sides if weight.states_bytes + kept * (s / side) ** 2 < limit_bytes]
    smaller = f"data.resolution {fitting[0]} or less would fit (and sizes in layers with it), or " if fitting else ""
    channels = f"channels of about {(limit_bytes - weight.states_bytes) / max(kept, 1):.0%} of those written"
    return f"by estimate, {smaller}{channels}; or a device with more memory"
