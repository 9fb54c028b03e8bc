"""Every metric that gankiln exports: name, type, meaning, labels. The only place where a metric name is written.

Rules: the prefix gankiln_, base units in the name, timestamps rather than ages, few label values. No job id, path or
seed is a label, except in `gankiln_job_info`, one series a worker, to join with. A worker exports at most 120 series
while idle and 350 while it runs a job.
"""

from dataclasses import dataclass
from typing import Literal

LABEL_SETS = 12
"""Most label sets of one metric whose labels come from a job (loss terms, metric names); later ones are left out."""

DURATION_BUCKETS = (1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 40960, 163840)
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60)
CHECKPOINT_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)


@dataclass(frozen=True)
class Metric:
    """One metric. `known` lists label values that exist from the start, at 0."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()
    buckets: tuple[float, ...] = ()
    most: int = LABEL_SETS


def _counter(name: str, text: str, *labels: str, known: tuple[tuple[str, ...], ...] = (), most: int = 24) -> Metric:
    return Metric(name, "counter", text, labels, known if labels else ((),), most=most)


def _gauge(name: str, text: str, *labels: str, known: tuple[tuple[str, ...], ...] = (), most: int = 12) -> Metric:
    return Metric(name, "gauge", text, labels, known, most=most)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, "histogram", text, labels, buckets=buckets)


def _each(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


# The queue, by `gankiln exporter`: visible while no worker runs.
QUEUE_JOBS = _gauge(
    "gankiln_queue_jobs",
    "Jobs that a worker could take or has; suspect: its worker was not heard of for a while; class: high (priority 70 "
    "and more), normal, low (under 30)",
    "state",
    "class",
    known=tuple((s, c) for s in ("claimable", "running", "suspect") for c in ("high", "normal", "low")),
)
QUEUE_DELAYED = _gauge("gankiln_queue_delayed_jobs", "Jobs that wait for their next attempt")
QUEUE_PAUSED = _gauge("gankiln_queue_paused_jobs", "Jobs that somebody paused")
QUEUE_OLDEST = _gauge(
    "gankiln_queue_oldest_submitted_timestamp_seconds", "Since when the oldest claimable job waits", "class"
)
QUEUE_INBOX = _gauge("gankiln_queue_inbox_specs", "Specs dropped into the inbox that no worker has read yet")
JOBS_FINISHED = _counter(
    "gankiln_jobs_finished_total",
    "Jobs that ended, since the exporter started",
    "outcome",
    known=_each("succeeded", "failed", "cancelled", "dead"),
)
DEAD_JOBS = _gauge("gankiln_dead_jobs", "Dead letters: jobs that failed or died and that nobody has retried")
SPECS_REJECTED = _counter(
    "gankiln_specs_rejected_total", "Specs that were refused", "reason", known=_each("spec_refused")
)
WORKERS = _gauge("gankiln_workers", "Workers that hold a job", "state", known=_each("running", "suspect"))
OLDEST_HEARTBEAT = _gauge(
    "gankiln_active_job_heartbeat_oldest_timestamp_seconds", "The oldest last heartbeat among the running jobs"
)
STUDY_RUNS = _gauge("gankiln_study_runs", "Runs of the open studies", "study", "state", most=300)
STUDY_BEST = _gauge(
    "gankiln_study_best_value", "Best value of the primary metric so far", "study", "metric", "features", most=60
)
SCAN_SUCCESS = _gauge("gankiln_scan_last_success_timestamp_seconds", "When the queue was last read without an error")
SCAN_SECONDS = _gauge("gankiln_scan_duration_seconds", "How long the last scan of the queue took")

# Worker.
WORKER_STATES = ("idle", "ingesting", "downloading", "training", "evaluating", "uploading", "draining", "quarantined")
WORKER_STATE = _gauge("gankiln_worker_state", "1 for what the worker does now", "state", known=_each(*WORKER_STATES))
CLAIMS = _counter("gankiln_claims_total", "Attempts to claim a job", "result", known=_each("won", "lost", "error"))
TAKEOVERS = _counter("gankiln_takeovers_total", "Jobs taken over from a lost worker")
FENCED = _counter("gankiln_fenced_total", "Attempts that another worker had taken over")
INTERRUPTIONS = _counter(
    "gankiln_interruptions_total",
    "Healthy attempts that were given back",
    "reason",
    known=_each("drain", "spot", "stall", "store"),
)
ATTEMPTS = _counter(
    "gankiln_attempts_total", "Attempts that ended; class: whose fault a failure is", "outcome", "class"
)
HEARTBEAT_SUCCESS = _gauge("gankiln_heartbeat_last_success_timestamp_seconds", "Last heartbeat that was stored")
HEARTBEAT_FAILURES = _counter("gankiln_heartbeat_failures_total", "Heartbeats that could not be stored")
STORE_REQUESTS = _counter("gankiln_store_requests_total", "Requests to the store", "op", "code", most=40)
STORE_SECONDS = _histogram(
    "gankiln_store_request_duration_seconds", "Time of a request to the store", "op", buckets=REQUEST_BUCKETS
)
CLOCK_SKEW = _gauge("gankiln_store_clock_skew_seconds", "Local clock minus the clock of the store")
BUILD_INFO = _gauge("gankiln_build_info", "Always 1", "version", "torch", "cuda", "driver", most=1)
JOB_INFO = _gauge(
    "gankiln_job_info",
    "Always 1: the job that runs here",
    "job_id",
    "job_name",
    "model",
    "dataset",
    "resolution",
    most=1,
)
ATTEMPT_STARTED = _gauge("gankiln_attempt_started_timestamp_seconds", "When the attempt that runs here began")
QUEUE_WAIT = _histogram("gankiln_queue_wait_seconds", "From submission to the first claim", buckets=DURATION_BUCKETS)
JOB_SECONDS = _histogram(
    "gankiln_job_duration_seconds", "Run time of a job over all its attempts", "outcome", buckets=DURATION_BUCKETS
)
JOBS_REFUSED = _counter(
    "gankiln_worker_specs_rejected_total", "Specs that this worker refused", "reason", known=_each("spec_refused")
)

# Training, while a job runs.
TRAIN_IMAGES = Metric("gankiln_train_images_total", "counter", "Real images shown to the discriminator")
TRAIN_TARGET = _gauge("gankiln_train_target_images", "Images at which the job ends")
TRAIN_SPEED = _gauge("gankiln_train_images_per_second", "Speed between the last two progress events")
TRAIN_STEP = _gauge("gankiln_train_last_step_timestamp_seconds", "When progress was last reported")
TRAIN_LOSS = _gauge("gankiln_train_loss", "Mean losses since the last progress event", "term")
TRAIN_GRADIENT = _gauge("gankiln_train_grad_norm", "Norm of the gradient", "net")
TRAIN_LOGIT = _gauge("gankiln_train_logit_mean", "Mean output of the discriminator", "which")
TRAIN_ADA = _gauge("gankiln_train_ada_p", "Probability of adaptive augmentation")
TRAIN_NONFINITE = Metric(
    "gankiln_train_nonfinite_total", "counter", "Runs stopped by a number that is not finite", ("what",)
)
TRAIN_PHASE = Metric(
    "gankiln_train_phase_seconds_total",
    "counter",
    "Where the time from the first to the last step goes: step, data (waiting for it), samples, checks, evaluation, "
    "checkpoints",
    ("phase",),
)
EVAL_METRIC = _gauge("gankiln_eval_metric", "Last value", "metric", "features")
EVAL_BEST = _gauge("gankiln_eval_metric_best", "Best value so far", "metric", "features")
EVAL_SECONDS = _gauge("gankiln_eval_duration_seconds", "How long the last evaluation took")
VERDICTS = _gauge("gankiln_verdicts", "Detectors by what they last said", "verdict", known=())
VERDICT_LEVEL = _gauge(
    "gankiln_verdict_level", "0 healthy, 1 warning, 2 failure; of detectors that were not always healthy", "detector"
)

# GPU.
GPU_USED = _gauge("gankiln_gpu_utilization_ratio", "Share of the last second in which the GPU was busy", "gpu", most=16)
GPU_MEMORY_USED = _gauge("gankiln_gpu_memory_used_bytes", "Memory of the GPU in use", "gpu", most=16)
GPU_MEMORY_TOTAL = _gauge("gankiln_gpu_memory_total_bytes", "Memory of the GPU", "gpu", most=16)
TORCH_ALLOCATED = _gauge("gankiln_torch_memory_allocated_peak_bytes", "Most memory that the job had allocated")
CUDA_OOM = _counter("gankiln_cuda_oom_total", "Attempts that did not fit into the memory of the GPU")

# Artefacts.
CHECKPOINT_SUCCESS = _gauge("gankiln_checkpoint_last_success_timestamp_seconds", "Last checkpoint that was stored")
CHECKPOINT_INTERVAL = _gauge("gankiln_checkpoint_interval_images", "Images between two checkpoints of the job")
CHECKPOINT_SECONDS = _histogram(
    "gankiln_checkpoint_duration_seconds",
    "Time to save and to upload a checkpoint",
    "stage",
    buckets=CHECKPOINT_BUCKETS,
)
CHECKPOINT_SIZE = _gauge("gankiln_checkpoint_size_bytes", "Size of the last checkpoint")
CHECKPOINT_FAILURES = _counter(
    "gankiln_checkpoint_failures_total", "Checkpoints that were not stored", "stage", known=_each("spool", "upload")
)
UPLOAD_BYTES = _counter(
    "gankiln_upload_bytes_total", "Bytes stored", "kind", known=_each("checkpoint", "samples", "log", "result")
)
UPLOAD_FAILURES = _counter("gankiln_upload_failures_total", "Uploads that failed and are tried again", "kind", "reason")
SPOOL_BYTES = _gauge("gankiln_spool_bytes", "Files on the local disk that wait to be uploaded")
SPOOL_LIMIT = _gauge("gankiln_spool_limit_bytes", "Most bytes that may wait")

QUEUE_METRICS = (
    QUEUE_JOBS,
    QUEUE_DELAYED,
    QUEUE_PAUSED,
    QUEUE_OLDEST,
    QUEUE_INBOX,
    JOBS_FINISHED,
    DEAD_JOBS,
    SPECS_REJECTED,
    WORKERS,
    OLDEST_HEARTBEAT,
    STUDY_RUNS,
    STUDY_BEST,
    SCAN_SUCCESS,
    SCAN_SECONDS,
)
TRAINING_METRICS = (
    JOB_INFO,
    ATTEMPT_STARTED,
    TRAIN_IMAGES,
    TRAIN_TARGET,
    TRAIN_SPEED,
    TRAIN_STEP,
    TRAIN_LOSS,
    TRAIN_GRADIENT,
    TRAIN_LOGIT,
    TRAIN_ADA,
    TRAIN_NONFINITE,
    TRAIN_PHASE,
    EVAL_METRIC,
    EVAL_BEST,
    EVAL_SECONDS,
    VERDICTS,
    VERDICT_LEVEL,
    TORCH_ALLOCATED,
    CHECKPOINT_INTERVAL,
    CHECKPOINT_SUCCESS,
    CHECKPOINT_SIZE,
    HEARTBEAT_SUCCESS,
)
"""Known only while a job runs; forgotten when it ends."""
WORKER_METRICS = (
    WORKER_STATE,
    CLAIMS,
    TAKEOVERS,
    FENCED,
    INTERRUPTIONS,
    ATTEMPTS,
    HEARTBEAT_FAILURES,
    STORE_REQUESTS,
    STORE_SECONDS,
    CLOCK_SKEW,
    BUILD_INFO,
    QUEUE_WAIT,
    JOB_SECONDS,
    JOBS_REFUSED,
    GPU_USED,
    GPU_MEMORY_USED,
    GPU_MEMORY_TOTAL,
    CUDA_OOM,
    CHECKPOINT_SECONDS,
    CHECKPOINT_FAILURES,
    UPLOAD_BYTES,
    UPLOAD_FAILURES,
    SPOOL_BYTES,
    SPOOL_LIMIT,
)
METRICS = (*QUEUE_METRICS, *WORKER_METRICS, *TRAINING_METRICS)
METRIC_NAMES = frozenset(metric.name for metric in METRICS)
"""Dashboards and alert rules may use these and no others; a test holds that."""
