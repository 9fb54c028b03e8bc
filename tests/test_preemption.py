"""The notice of a spot machine, from servers that answer as the clouds do."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.preemption import SOURCES, PreemptionWatch
from service.worker import preemption
from tests.worker_kit import Station

NOTICES = {
    "aws": '{"action": "terminate", "time": "2026-09-18T08:22:00Z"}',
    "gcp": "TRUE\n",
    "azure": '{"Events": [{"EventType": "Reboot"}, {"EventType": "Preempt"}]}',
}
CALM = {"aws": None, "gcp": "FALSE\n", "azure": '{"Events": [{"EventType": "Reboot"}]}'}
HEADERS = {
    "aws": ("X-aws-ec2-metadata-token", "secret"),
    "gcp": ("Metadata-Flavor", "Google"),
    "azure": ("Metadata", "true"),
}


class Metadata:
    """A metadata service; `answer` None is 404."""

    def __init__(self, cloud):
        self.answer = CALM[cloud]
        metadata = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self):
                self._reply(200, "secret" if self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") else "")

            def do_GET(self):
                name, value = HEADERS[cloud]
                if self.headers.get(name) != value:
                    self._reply(401, "")
                elif metadata.answer is None or self.path != SOURCES[cloud].path:
                    self._reply(404, "")
                else:
                    self._reply(200, metadata.answer)

            def _reply(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(params=sorted(NOTICES))
def cloud(request):
    return request.param


def test_a_notice_is_told_once_with_the_time_that_is_left(cloud):
    metadata, told = Metadata(cloud), []
    watch = PreemptionWatch(cloud, told.append, base_url=metadata.url, poll_seconds=0.05)
    try:
        time.sleep(0.3)
        assert told == []
        metadata.answer = NOTICES[cloud]
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        assert len(told) == 1
        assert 10 < told[0] < SOURCES[cloud].notice_seconds
    finally:
        watch.close()
        metadata.close()


@pytest.mark.parametrize("answer", ["", "not json", "[]", "null", '{"Events": 5}'])
def test_strange_answers_and_no_service_mean_nothing(answer):
    metadata = Metadata("azure")
    metadata.answer = answer
    watch = PreemptionWatch("azure", lambda seconds: None, base_url=metadata.url, poll_seconds=60)
    assert not watch.is_announced()
    metadata.close()
    assert not watch.is_announced()
    watch.close()


def test_a_notice_drains_the_worker(tmp_path, monkeypatch):
    metadata = Metadata("gcp")
    metadata.answer = NOTICES["gcp"]
    monkeypatch.setitem(SOURCES, "gcp", SOURCES["gcp"].__class__(**{**vars(SOURCES["gcp"]), "base_url": metadata.url}))
    station = Station(tmp_path)
    worker = station.worker()
    with preemption("gcp", worker):
        worker.run()  # comes back by itself
    assert worker.unready() == "draining"
    metadata.close()
    with preemption("off", worker):
        pass
