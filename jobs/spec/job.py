"""A job: what is trained, for how long, how it is judged, how it queues."""

from typing import Annotated, Literal

from pydantic import Field

from jobs.spec.base import Section
from jobs.spec.clips import ClipData
from jobs.spec.data import ImageData
from jobs.spec.diagnosis import Diagnosis
from jobs.spec.evaluation import Evaluation
from jobs.spec.pairs import TranslationData
from jobs.spec.sketch import Sketch
from jobs.spec.sketch_data import SketchData
from jobs.spec.stylegan2 import StyleGAN2
from jobs.spec.stylex import StylEx
from jobs.spec.talking_face import TalkingFace
from jobs.spec.translation import Translation

NAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"

Recipe = Annotated[StyleGAN2 | StylEx | TalkingFace | Translation | Sketch, Field(discriminator="kind")]
"""Every recipe's section has its own `data`."""

DataSection = ImageData | ClipData | TranslationData | SketchData
"""Any recipe's `data`; each has `kind`, `resolution` and `mirror`."""


class Training(Section):
    """How long, on what, and what is left behind on the way. The one clock is `images`: real images shown to D."""

    images: int = Field(
        ge=1, description="Real images shown to the discriminator until the run ends; of clips: windows of frames"
    )
    batch: int | None = Field(None, ge=1, description="Images an iteration; default from the preset, else 32")
    micro_batch: int | None = Field(
        None, ge=1, description="Images at a time on a device; the gradients of a batch are accumulated over these"
    )
    max_memory_bytes: int | None = Field(
        None,
        ge=1,
        description="Most that the tensors of training may take. A job that needs more is fitted: smaller "
        "micro-batches, then activations computed twice. Default: what the device has free",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device multiplies it in hardware, else fp32; the report says which"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(
        1,
        ge=1,
        le=64,
        description="GPUs of one machine that share every batch; on a CPU, so many processes. What one device computes "
        "with micro_batch = batch / devices, several compute, up to rounding",
    )
    compile: bool = Field(
        False,
        description="Compile generator, discriminator and their penalties (recipes stylegan2, stylex); the first steps "
        "take minutes. On a CPU no gain was measured; on a GPU, nothing yet. Needs a C++ compiler; the cache keeps "
        "compiled code",
    )
    cuda_graphs: bool = Field(
        False,
        description="With `compile`, on a GPU: what a compiled network launches is recorded once and replayed whole, "
        "which helps where steps are short and the host is late. Takes memory of its own. Not measured yet",
    )
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

    @property
    def share(self) -> int:
        """Images of a batch that each device gets, of a resolved spec."""
        assert self.batch is not None, "a resolved spec"
        return self.batch // self.devices

    @property
    def accumulation(self) -> int:
        """Micro-batches that each device goes through for one step, of a resolved spec."""
        assert self.micro_batch is not None, "a resolved spec"
        return self.share // self.micro_batch


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
