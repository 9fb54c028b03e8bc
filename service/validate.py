"""A submitted spec, in the terms of the queue. Everything about the spec itself stays in jobs.spec."""

from collections.abc import Callable

from jobs.spec import Job, LoadedStudy, load_any
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


def facts_of(job: Job, budgets: Budgets) -> SpecFacts:
    """What the queue must know of a job."""
    queue, training = job.queue, job.training
    return SpecFacts(
        name=job.name,
        priority=queue.priority,
        owner=queue.owner or "",
        # How many GPUs it cannot do without: `device: auto` also runs on a machine that has none.
        gpus=training.devices if training.device == "cuda" or training.devices > 1 else 0,
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
