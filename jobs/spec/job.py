"""A job: what is trained, for how long, how it is judged, how it queues."""

from typing import Annotated, Literal

from pydantic import Field

from jobs.spec.base import Section
from jobs.spec.diagnosis import Diagnosis
from jobs.spec.evaluation import Evaluation
from jobs.spec.stylegan2 import StyleGAN2

NAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"

Recipe = Annotated[StyleGAN2, Field()]
"""A union discriminated by `kind` as soon as there are two recipes."""


class Training(Section):
    """How long, on what, and what is left behind on the way. The one clock is `images`: real images shown to D."""

    images: int = Field(ge=1, description="Real images shown to the discriminator until the run ends")
    batch: int | None = Field(None, ge=1, description="Images an iteration; default from the preset, else 32")
    micro_batch: int | None = Field(
        None, ge=1, description="Images at a time on the device; the gradients of a batch are accumulated over these"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device multiplies it in hardware, else fp32; the report says which"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1, le=1, description="GPUs of one machine; more than one is not supported yet")
    deterministic: bool = Field(
        True, description="Bit-exact algorithms on CUDA, at some cost of speed; CPU runs are always exact"
    )
    sample_images: int | None = Field(None, ge=1, description="Images between two sample grids; default images / 20")
    checkpoint_images: int | None = Field(
        None, ge=1, description="Images between two checkpoints; default images / 10, at most 200,000"
    )
    checkpoints_kept: int = Field(2, ge=1, description="Newest checkpoints kept on disk")
    progress_seconds: float = Field(10.0, gt=0, description="Time between two progress events")
    grid: tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]] = Field(
        (8, 8), description="Columns and rows of a sample grid"
    )


class Queue(Section):
    """How the job queues; ignored by `gankiln run`."""

    priority: int = Field(50, ge=0, le=99, description="Larger runs first")
    owner: str | None = Field(None, max_length=63, pattern=NAME_PATTERN)
    idempotency_key: str | None = Field(None, min_length=1, max_length=200)
    on_change: Literal["new", "supersede", "ignore"] = Field(
        "new", description="What the same file name with other content means while its job is still open"
    )
    startup_seconds: int = Field(1800, ge=1, description="From claim to the first step")
    stall_seconds: int = Field(900, ge=1, description="Without progress, then the attempt is retried")
    attempt_seconds: int | None = Field(None, ge=1, description="For one attempt")
    total_seconds: int | None = Field(None, ge=1, description="Over all attempts")


class Job(Section):
    """One job, as a submitter writes it."""

    name: str = Field(pattern=NAME_PATTERN, description="Letters, digits, '.', '_' and '-'; names its results")
    question: str | None = Field(None, max_length=2000, description="In words: what this run is to find out")
    seed: int = Field(0, ge=0, lt=2**32)
    recipe: Recipe
    training: Training
    evaluation: Evaluation = Evaluation()
    diagnosis: Diagnosis = Diagnosis()
    queue: Queue = Queue()
