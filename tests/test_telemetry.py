"""Metrics keep their names and budgets, logs keep secrets, and nothing here can stop a job."""

import io
import json
import time
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from jobs.networks.augment import Ada
from jobs.spec.augmentation import Ada as AdaSection
from service.redact import Redactor
from service.telemetry import catalogue as c
from service.telemetry import logs
from service.telemetry.gpu import Gpu, NvidiaLibrary
from service.telemetry.observer import JobInfo, Observer
from service.telemetry.recorder import Recorder
from service.telemetry.server import TelemetryServer

INFO = JobInfo("0" * 24, "faces", "stylegan2", "zip", "64")
PROGRESS = {
    "event": "progress",
    "time": 1e9,
    "images": 4000,
    "target_images": 25_000,
    "seconds": 100.0,
    "images_per_second": 40.0,
    "losses": {"generator": 0.7, "discriminator": 1.2, "r1": 0.01, "path_length": 0.2},
    "statistics": {"logit.real": 1.0, "logit.fake": -1.0, "gradient.generator": 2.0, "gradient.discriminator": 3.0},
    "time_seconds": {"training": 90.0, "waiting": 10.0},
    "memory_bytes": 10**9,
}


class FakeGpus(NvidiaLibrary):
    def __init__(self, count=0):
        super().__init__("no-such-library.so")
        self.count = count

    def gpus(self):
        return [Gpu(index, "H200", 0.5, 1, 2) for index in range(self.count)]


@pytest.fixture
def lines():
    return io.StringIO()


@pytest.fixture
def observer(lines):
    return Observer(logs.configure(format="json", redact=Redactor(["hunter22"]), stream=lines), gpus=FakeGpus(8))


def _families(recorder):
    text, _ = recorder.render()
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def _series(recorder):
    return [line for line in recorder.render()[0].decode().splitlines() if not line.startswith("#")]


def _idle(observer):
    observer.built("1.2.3", "2.13.0")
    observer.state("idle")
    observer.skew(0.1)
    observer.spool(0, 100)
    for operation in ("list", "get", "read", "put", "create", "delete", "stat"):
        observer.request(operation, "ok", 0.01)
    for operation, code in (("get", "absent"), ("create", "exists"), ("list", "Unavailable"), ("put", "Unavailable")):
        observer.request(operation, code, 0.01)
    observer.read_gpus()


def _run_a_job(observer):
    """Everything that a rich job makes a worker say, with more loss terms and metrics than are allowed."""
    (adaptive,) = Ada(AdaSection(), 16).scalars()
    observer.claim("won", taken_over=True)
    observer.job_started(INFO, attempt=2, waited_seconds=12.0, resumes_at_images=1000, checkpoint_images=500)
    observer.event({"event": "phase", "phase": "training"})
    observer.event(PROGRESS)
    observer.event(PROGRESS | {"losses": {f"term{n}": 0.5 for n in range(40)}})
    observer.event(PROGRESS | {"statistics": {f"gradient.net{n}": 0.5 for n in range(40)} | {adaptive: 0.2}})
    observer.event({"event": "phase", "phase": "evaluating"})
    rows = [{"metric": f"m{n}", "features": "pixels", "value": n} for n in range(40)]
    observer.event({"event": "evaluation", "images": 4000, "rows": rows})
    observer.event({"event": "checkpoint", "images": 4000, "path": "x", "seconds": 1.5, "bytes": 10**8})
    for n in range(9):
        observer.event({"event": "verdict", "detector": str(n), "verdict": "healthy" if n else "failure"})
    observer.heartbeat(stored=True)
    observer.heartbeat(stored=False)
    observer.checkpoint_stored(3.0)
    observer.checkpoint_skipped("spool", "full")
    for kind in ("checkpoint", "samples", "log", "result"):
        observer.uploaded(kind, 100)
        observer.upload_failed(kind, "Unavailable")
    for outcome in ("finished", "failed", "interrupted", "cancelled", "fenced"):
        observer.attempt_ended(outcome, "diverged", "job", job_name="faces", token="hunter22")
    for outcome in ("succeeded", "failed", "cancelled", "dead"):
        observer.job_ended(outcome, 3600.0)


def test_an_idle_worker_has_at_most_120_series(observer):
    _idle(observer)
    assert len(_series(observer.recorder)) <= 120


def test_a_running_worker_with_eight_gpus_has_at_most_350_series(observer, lines):
    _idle(observer)
    _run_a_job(observer)
    assert len(_series(observer.recorder)) <= 350
    assert "telemetry_failed" not in lines.getvalue()


def test_the_time_and_the_interval_that_a_late_checkpoint_is_judged_by_are_there_while_a_job_runs(observer):
    before = time.time()
    observer.job_started(INFO, attempt=1, waited_seconds=0.0, resumes_at_images=None, checkpoint_images=500)
    assert before <= observer.recorder.value(c.ATTEMPT_STARTED) <= time.time()
    assert observer.recorder.value(c.CHECKPOINT_INTERVAL) == 500
    observer.job_forgotten()
    assert observer.recorder.value(c.ATTEMPT_STARTED) is None


def test_after_a_job_its_series_are_gone(observer):
    _idle(observer)
    _run_a_job(observer)
    assert "gankiln_job_info" in _families(observer.recorder)
    observer.job_forgotten()
    text = observer.recorder.render()[0].decode()
    assert "gankiln_job_info" not in text and "gankiln_train_" not in text and "faces" not in text
    assert len(_series(observer.recorder)) <= 250


def test_no_label_but_job_info_names_a_job(observer):
    _run_a_job(observer)
    for name, family in _families(observer.recorder).items():
        for sample in family.samples:
            if name != "gankiln_job_info":
                assert INFO.job_id not in sample.labels.values()
                assert INFO.job_name not in sample.labels.values()


def test_progress_becomes_metrics(observer):
    observer.job_started(INFO, attempt=1, waited_seconds=0.0, resumes_at_images=None, checkpoint_images=500)
    observer.event(PROGRESS)
    observer.event(PROGRESS | {"images": 6000, "time_seconds": {"training": 140.0, "waiting": 10.0, "evaluation": 5.0}})
    families = _families(observer.recorder)

    def value(name, **labels):
        return next(s.value for s in families[name].samples if s.labels == labels)

    assert value("gankiln_train_images") == 6000
    assert value("gankiln_train_target_images") == 25_000
    assert value("gankiln_train_loss", term="r1") == 0.01
    assert value("gankiln_train_logit_mean", which="fake") == -1.0
    assert value("gankiln_train_grad_norm", net="generator") == 2.0
    assert value("gankiln_train_phase_seconds", phase="data") == pytest.approx(10.0)
    assert value("gankiln_train_phase_seconds", phase="step") == pytest.approx(140.0)
    assert value("gankiln_train_phase_seconds", phase="evaluation") == pytest.approx(5.0)


def test_the_best_value_goes_the_way_of_its_metric_and_sanity_rows_do_not_count(observer):
    for fd, recall in ((30.0, 0.1), (20.0, 0.3), (25.0, 0.2)):
        rows = [
            {"metric": "fd", "features": "pixels", "value": fd},
            {"metric": "recall", "features": "pixels", "value": recall},
            {"metric": "fd", "features": "pixels", "value": 1.0, "label": "real half against real half"},
        ]
        observer.event({"event": "evaluation", "rows": rows})
    assert observer.recorder.value(c.EVAL_METRIC, "fd", "pixels") == 25.0
    assert observer.recorder.value(c.EVAL_BEST, "fd", "pixels") == 20.0
    assert observer.recorder.value(c.EVAL_BEST, "recall", "pixels") == 0.3


def test_a_verdict_that_is_news_is_a_metric_and_a_line(observer, lines):
    said = {"event": "verdict", "detector": "collapse", "images": 800, "value": 0.1, "threshold": 0.25}
    for verdict in ("healthy", "failure", "failure", "healthy"):
        observer.event(said | {"verdict": verdict, "message": "Samples are alike", "hint": "raise r1.gamma"})
        level = observer.recorder.value(c.VERDICT_LEVEL, "collapse")
        if verdict == "failure":
            assert level == 2 and observer.recorder.value(c.VERDICTS, "failure") == 1
    assert level == 0 and observer.recorder.value(c.VERDICTS, "failure") == 0
    first, last = (json.loads(line) for line in lines.getvalue().splitlines())
    assert first["level"] == "warning" and first["action"] == "verdict" and first["detector"] == "collapse"
    assert first["event"] == "failure: collapse: Samples are alike" and first["hint"] == "raise r1.gamma"
    assert last["level"] == "info" and last["event"].startswith("healthy: collapse")


def test_healthy_verdicts_cost_no_series_each(observer):
    observer.event({"event": "verdict", "detector": "collapse", "verdict": "healthy"})
    assert observer.recorder.value(c.VERDICT_LEVEL, "collapse") is None
    assert observer.recorder.value(c.VERDICTS, "healthy") == 1


@given(
    event=st.dictionaries(
        st.sampled_from(["event", "images", "losses", "statistics", "rows", "seconds", "phase", "verdict", "time"]),
        st.none()
        | st.sampled_from(["progress", "evaluation", "checkpoint", "verdict", "phase"])
        | st.floats()
        | st.lists(st.dictionaries(st.sampled_from(["metric", "value"]), st.text()), max_size=2)
        | st.dictionaries(st.text(), st.text() | st.none()),
    )
)
def test_whatever_a_job_says_the_observer_does_not_fail(event):
    lines = io.StringIO()
    observer = Observer(logs.configure(format="json", redact=str, stream=lines), gpus=FakeGpus())
    observer.event(event)
    observer.recorder.render()


def test_a_broken_log_stops_nothing():
    class Broken(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    observer = Observer(logs.configure(format="json", redact=str, stream=Broken()), gpus=FakeGpus())
    observer.rejected("inbox/x.yaml", "error")
    observer.attempt_ended("finished", "finished", "none")


def test_a_failing_observer_complains_once(observer, lines):
    for _ in range(5):
        observer.event({"event": "progress", "images": "many"})
    assert lines.getvalue().count("telemetry_failed") == 1


def test_the_canonical_line_of_an_attempt(observer, lines):
    observer.event(PROGRESS)
    observer.attempt_ended("failed", "diverged", "job", job_name="faces", job_id="1", seconds=12.5, note="x hunter22 y")
    line = json.loads(lines.getvalue().splitlines()[-1])
    assert line["action"] == "attempt_ended"
    assert line["code"] == "diverged" and line["images"] == 4000 and line["level"] == "error"
    assert "hunter22" not in lines.getvalue()


def test_a_secret_never_reaches_the_log_wherever_it_hides(lines):
    log = logs.configure(format="json", redact=Redactor(["hunter22"]), stream=lines)
    try:
        raise ValueError("password hunter22")
    except ValueError:
        log.error(
            "failed hunter22", key={"nested": ["hunter22", ("hunter22",)]}, error=KeyError("hunter22"), exc_info=True
        )
    assert "hunter22" not in lines.getvalue()
    assert json.loads(lines.getvalue())["key"]["nested"][0] == "[redacted]"


def test_a_terminal_gets_lines_for_people(lines):
    log = logs.configure(format="console", redact=str, stream=lines)
    log.info("claimed faces", action="claimed")
    log.debug("not shown")
    assert "claimed faces" in lines.getvalue() and "action=claimed" in lines.getvalue()
    assert "not shown" not in lines.getvalue()


def test_names_follow_the_conventions():
    for metric in c.METRICS:
        assert metric.name.startswith("gankiln_")
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert not metric.name.endswith(("_ms", "_minutes", "_mb", "_kimg")), metric.name
        assert metric.help and not metric.help.endswith("."), metric.name
        assert all(len(known) == len(metric.labels) for known in metric.known)
    assert len(c.METRIC_NAMES) == len(c.METRICS)


def test_histograms_are_cumulative():
    recorder = Recorder([c.STORE_SECONDS])
    for seconds in (0.001, 0.02, 0.02, 100.0):
        recorder.observe(c.STORE_SECONDS, seconds, "list")
    samples = {
        s.labels.get("le"): s.value for s in _families(recorder)[c.STORE_SECONDS.name].samples if "le" in s.labels
    }
    assert samples["0.005"] == 1 and samples["0.025"] == 3 and samples["60.0"] == 3 and samples["+Inf"] == 4


def _get(server, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_the_port_serves_metrics_health_and_readiness(observer):
    problem = ["the store does not answer"]
    server = TelemetryServer(
        observer.recorder,
        "127.0.0.1",
        0,
        healthy=lambda: None,
        ready=lambda: problem[0],
        extra={"/queue": lambda: {"claimable": 3}},
    )
    try:
        assert _get(server, "/healthz")[2] == "ok\n"
        with pytest.raises(urllib.error.HTTPError) as refused:
            _get(server, "/readyz")
        assert refused.value.code == 503
        assert b"the store does not answer" in refused.value.read()
        refused.value.close()
        problem[0] = None
        assert _get(server, "/readyz")[0] == 200
        assert json.loads(_get(server, "/queue")[2]) == {"claimable": 3}
        _, kind, text = _get(server, "/metrics")
        assert kind.startswith("text/plain") and "gankiln_claims_total" in text
        _, kind, text = _get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text") and text.endswith("# EOF\n")
    finally:
        server.close()


def test_where_there_is_no_gpu_nothing_is_said():
    library = NvidiaLibrary("no-such-library.so")
    assert not library.available
    assert library.gpus() == [] and library.driver_version() == "" and library.cuda_version() == ""
