"""The pages over a store: right, read-only, safe against what is written in it, usable without JavaScript."""

import http.client
import json
import threading

import pytest

from service.queue import Failure, Progress, keys
from service.queue.model import OutputFile
from service.store import Unavailable
from service.studies import Studies
from service.ui import Pages, PageServer
from service.validate import validator
from tests import browser
from tests.study_worker import study_command
from tests.test_studies import ABLATE, submit
from tests.worker_kit import Station

NASTY = "<script>document.title='broken'</script>\"'&"
"""In a spec without its single quotes, which would end its YAML text."""


@pytest.fixture
def station(tmp_path):
    return Station(tmp_path)


@pytest.fixture
def server(station):
    made = PageServer(Pages(station.queue), "127.0.0.1", 0)
    yield made
    made.close()


def get(server, path, method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body.decode(errors="replace")


def ingest(station):
    station.queue.ingest(validator(station.settings.budgets))


def leave(station, lease, files):
    """An attempt that committed these files."""
    import hashlib

    for path, data in files.items():
        station.store.put(f"{lease.attempt_prefix}/{path}", data)
    return tuple(
        OutputFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in files.items()
    )


def test_the_overview_names_what_runs_waits_and_ended(station, server):
    waiting, running = station.submit(name="waits"), station.submit(name="runs", queue="  priority: 90")
    ingest(station)
    station.queue.claim().beat(Progress(phase="training", images=50, total_images=200, images_per_second=12.5))
    answer, page = get(server, "/")
    assert answer.status == 200
    for said in (
        "1 waiting, 1 running",
        f"/jobs/{waiting}",
        f"/jobs/{running}",
        "50 of 200 images",
        "12.5",
        'value="25"',
    ):
        assert said in page
    assert '<meta http-equiv="refresh"' in page


def test_an_empty_store_says_what_to_do(server):
    assert "gankiln submit SPEC" in get(server, "/")[1]


def test_a_job_s_page_has_its_why_its_log_its_curves_and_its_files(station, server):
    job = station.submit(name="done")
    ingest(station)
    lease = station.queue.claim()
    station.store.put(f"{lease.attempt_prefix}/log/00000001.txt", b"step 1\nstep 2\n")
    events = [{"event": "progress", "images": i, "losses": {"g": 1 / i}, "time": 1.0} for i in (10, 20, 30)]
    files = {
        "events.jsonl": "".join(json.dumps(event) + "\n" for event in events).encode(),
        "samples/000000030.png": b"\x89PNG picture",
        "report.html": b"<html>the report</html>",
        "checkpoints/000000030/state.pt": b"weights",
    }
    lease.succeed(leave(station, lease, files))
    page = get(server, f"/jobs/{job}")[1]
    for said in ("It succeeded in attempt 1.", "step 2", "<svg", "samples/000000030.png", "files/report.html"):
        assert said in page
    assert "refresh" not in page.split("<body>")[0]
    answer, report = get(server, f"/jobs/{job}/files/report.html")
    assert report == "<html>the report</html>"
    assert answer.getheader("Content-Security-Policy").startswith("sandbox allow-scripts")
    answer, _ = get(server, f"/jobs/{job}/files/samples/000000030.png")
    assert answer.getheader("Content-Type") == "image/png"


def test_a_running_job_shows_what_came_as_far_as_the_store(station, server):
    job = station.submit(name="runs")
    ingest(station)
    lease = station.queue.claim()
    for images in (10, 20):
        station.store.put(f"{lease.attempt_prefix}/samples/{images:09d}.png", b"\x89PNG")
    page = get(server, f"/jobs/{job}")[1]
    assert page.index("20 images") < page.index("10 images")


@pytest.mark.parametrize(
    "path",
    ["state.pt", "../spec.yaml", "..%2f..%2fspec.yaml", "%2e%2e/spec.yaml", "spec.yaml%00.png", "samples/../spec.yaml",
     "checkpoints/1/state.pt", "samples/x.png"],
)  # fmt: skip
def test_only_what_a_run_left_to_be_seen_is_served(station, server, path):
    job = station.submit(name="runs")
    ingest(station)
    station.queue.claim()
    assert get(server, f"/jobs/{job}/files/{path}")[0].status == 404


@pytest.mark.parametrize(
    "path", ["/nothing", "/jobs/x", f"/jobs/{'0' * 24}", f"/studies/{'0' * 24}", "/jobs//", "/%00"]
)
def test_what_is_not_there_is_a_page_that_says_so(server, path):
    answer, page = get(server, path)
    assert answer.status == 404 and "There is nothing here" in page


def test_a_store_that_does_not_answer_is_a_page_too(station, server, monkeypatch):
    def away(*_args, **_options):
        raise Unavailable("the store is away")

    monkeypatch.setattr(station.queue.store, "list", away)
    answer, page = get(server, "/")
    assert answer.status == 503 and "the store is away" in page


def test_nothing_can_be_written_and_no_foreign_name_is_served(station, server):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert get(server, "/", method)[0].status == 501
    assert get(server, "/", host="evil.example")[0].status == 421
    assert get(server, "/", host=f"localhost:{server.port}")[0].status == 200
    answer, _ = get(server, "/", "HEAD")
    assert answer.status == 200 and "default-src 'none'" in answer.getheader("Content-Security-Policy")
    assert answer.getheader("X-Content-Type-Options") == "nosniff"


def test_what_is_written_in_specs_logs_and_failures_is_only_text(station, server):
    job = station.submit(name="nasty", say=NASTY.replace("'", ""))
    ingest(station)
    lease = station.queue.claim()
    lease.beat(Progress(phase=NASTY, last_line=NASTY))
    station.store.put(f"{lease.attempt_prefix}/log/00000001.txt", f"{NASTY}\x1b]0;title\x07".encode())
    note = json.dumps({"event": "note", "message": NASTY, "time": 1.0})
    files = leave(station, lease, {"events.jsonl": f"{note}\n".encode()})
    lease.fail(Failure.of("diverged", NASTY, hint=NASTY), files=files)
    for path in ("/", f"/jobs/{job}"):
        page = get(server, path)[1]
        assert "<script>document" not in page and "\x1b" not in page
    assert "&lt;script&gt;" in get(server, f"/jobs/{job}")[1]


def test_a_study_while_it_runs_and_when_it_has_ended(station, server):
    study_id = submit(station, ablate=ABLATE, seeds=1)
    ingest(station)
    assert "No worker has looked at it yet" in get(server, f"/studies/{study_id}")[1]
    Studies(station.queue).tend()
    page = get(server, f"/studies/{study_id}")[1]
    assert "seed 1: waiting" in page and "So far" in page
    assert f"/studies/{study_id}" in get(server, "/")[1]
    assert "gankiln study" in get(server, f"/studies/{study_id}/study.html")[1]
    station.worker(command_line=study_command).run(exit_when_idle_seconds=0)
    page = get(server, f"/studies/{study_id}")[1]
    assert "gamma-10" in page and "seed 1: finished" in page and "refresh" not in page.split("<body>")[0]
    answer, whole = get(server, f"/studies/{study_id}/study.html")
    assert whole == station.store.get(f"{keys.study_results('abl', study_id)}/study.html").decode()
    assert answer.getheader("Content-Security-Policy").startswith("sandbox")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("script", [True, False])
def test_pages_in_a_browser(station, server, width, script, tmp_path):
    job = station.submit(name="runs", queue="  priority: 90", say=NASTY.replace("'", ""))
    study_id = submit(station, ablate=ABLATE, seeds=1)
    ingest(station)
    Studies(station.queue).tend()
    station.queue.claim().beat(Progress(phase="training", images=50, total_images=200))
    for path in ("/", f"/jobs/{job}", f"/studies/{study_id}", f"/studies/{study_id}/study.html"):
        url = f"http://127.0.0.1:{server.port}{path}"
        with browser.page(url, width=width, height=900, script=script) as page:
            text = page.evaluate("document.body.innerText") if script else None
            if script:
                assert page.evaluate("document.documentElement.scrollWidth") <= width, path
                assert ("abl" if "studies" in path else "runs") in text
                assert page.evaluate("document.title") != "broken"
            own = f"asked the network for http://127.0.0.1:{server.port}/"
            assert [problem for problem in page.problems() if not problem.startswith(own)] == [], path


def test_many_requests_at_once(station, server):
    for index in range(5):
        station.submit(name=f"job-{index}")
    ingest(station)
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(server, "/")[0].status)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 8
