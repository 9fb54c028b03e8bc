"""One port a process: /metrics for Prometheus, /healthz and /readyz for whoever restarts or routes."""

import json
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from service.background_server import BackgroundServer
from service.telemetry.recorder import Recorder

Check = Callable[[], str | None]
"""None when all is well, else one sentence that says what is wrong."""


class TelemetryServer(BackgroundServer):
    """Serves until `close`. Handlers only read; what they read is behind the recorder's own lock."""

    def __init__(
        self,
        recorder: Recorder,
        host: str,
        port: int,
        *,
        healthy: Check,
        ready: Check,
        before_metrics: Callable[[], None] = lambda: None,
        extra: dict[str, Callable[[], Any]] | None = None,
    ) -> None:
        pages = {"/healthz": healthy, "/readyz": ready}
        documents = extra or {}

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds: a client that stops reading frees its thread

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    before_metrics()
                    body, content_type = recorder.render(self.headers.get("Accept", ""))
                    self._answer(HTTPStatus.OK, body, content_type)
                elif path in pages:
                    problem = pages[path]()
                    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
                    self._answer(status, (problem or "ok").encode() + b"\n", "text/plain; charset=utf-8")
                elif path in documents:
                    self._answer(HTTPStatus.OK, json.dumps(documents[path]()).encode(), "application/json")
                else:
                    self._answer(HTTPStatus.NOT_FOUND, b"see /metrics, /healthz, /readyz\n", "text/plain")

            def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Scrapes are not worth a line."""

        super().__init__(host, port, Handler, "telemetry")
