"""A submitted spec, in the terms of the queue. Everything about the spec itself stays in jobs.spec."""

from collections.abc import Callable

from jobs.spec import Job, LoadedStudy, load_any
from jobs.spec.job import Training
from jobs.spec.variants import fingerprint
from service.queue import Budgets, SpecFacts, StudyFacts, TimeLimits


def validator(budgets: Budgets) -> Callable[[bytes, str], SpecFacts | StudyFacts]:
    """For `Queue.poll`: (content, file name) -> what the queue must know. Raises SpecError with every mistake."""

    def validate(content: bytes, source: str) -> SpecFacts | StudyFacts:
        match load_any(content, source):
            case LoadedStudy() as study:
                return StudyFacts(name=study.name)
            case loaded:
                return facts_of(loaded.job, budgets)

    return validate


def _gpus(training: Training) -> int:
    """How many it cannot do without: one device that is `auto` may also be a machine without any."""
    several = training.devices > 1 and training.device == "auto"
    return training.devices if several or training.device == "cuda" else 0


def facts_of(job: Job, budgets: Budgets) -> SpecFacts:
    """What the queue must know of a job."""
    queue, training = job.queue, job.training
    return SpecFacts(
        name=job.name,
        priority=queue.priority,
        owner=queue.owner or "",
        gpus=_gpus(training),
        on_change=queue.on_change,
        idempotency_key=queue.idempotency_key,
        fingerprint=fingerprint(job),
        budgets=budgets,
        limits=TimeLimits(
            startup_seconds=queue.startup_seconds,
            stall_seconds=queue.stall_seconds,
            attempt_seconds=queue.attempt_seconds,
            total_seconds=queue.total_seconds,
        ),
    )
