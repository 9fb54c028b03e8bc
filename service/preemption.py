"""Spot machines: the notice that this one is about to be taken away, early enough for a last checkpoint.

Asks the metadata service of the cloud every few seconds. An error there means nothing and is passed over.
"""

import http.client
import json
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Cloud = Literal["aws", "gcp", "azure"]
POLL_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Source:
    """Where a cloud gives notice, and how long before it acts."""

    base_url: str
    path: str
    headers: tuple[tuple[str, str], ...]
    notice_seconds: float
    announces: Callable[[str], bool]
    """Whether an answer is a notice; AWS answers 404 until there is one."""


def _azure_announces(body: str) -> bool:
    events = json.loads(body).get("Events", [])
    return any(event.get("EventType") == "Preempt" for event in events)


SOURCES: dict[Cloud, Source] = {
    "aws": Source("http://169.254.169.254", "/latest/meta-data/spot/instance-action", (), 120.0, lambda _body: True),
    "gcp": Source(
        "http://metadata.google.internal",
        "/computeMetadata/v1/instance/preempted",
        (("Metadata-Flavor", "Google"),),
        30.0,
        lambda body: body.strip() == "TRUE",
    ),
    "azure": Source(
        "http://169.254.169.254",
        "/metadata/scheduledevents?api-version=2020-07-01",
        (("Metadata", "true"),),
        30.0,
        _azure_announces,
    ),
}
_AWS_TOKEN = ("/latest/api/token", "X-aws-ec2-metadata-token")
# The metadata service is on the link; a proxy would never reach it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class PreemptionWatch:
    """Calls `on_notice` with the seconds that are left, once, from a thread of its own."""

    def __init__(
        self,
        cloud: Cloud,
        on_notice: Callable[[float], None],
        *,
        base_url: str | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._cloud = cloud
        self._source = SOURCES[cloud]
        self._base_url = base_url or self._source.base_url
        self._poll_seconds = poll_seconds
        self._on_notice = on_notice
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preemption", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(2 * TIMEOUT_SECONDS)

    def is_announced(self) -> bool:
        """One question to the metadata service."""
        try:
            headers = dict(self._source.headers)
            if self._cloud == "aws":
                path, name = _AWS_TOKEN
                lifetime = {f"{name}-ttl-seconds": "300"}
                headers[name] = self._ask(urllib.request.Request(self._base_url + path, headers=lifetime, method="PUT"))  # noqa: S310
            request = urllib.request.Request(self._base_url + self._source.path, headers=headers)  # noqa: S310
            return self._source.announces(self._ask(request))
        except (OSError, ValueError, TypeError, AttributeError, http.client.HTTPException):
            return False

    def _ask(self, request: urllib.request.Request) -> str:
        with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
            body: bytes = answer.read(1 << 16)
            return body.decode(errors="replace")

    def _run(self) -> None:
        while not self._over.is_set():
            if self.is_announced():
                self._on_notice(self._source.notice_seconds - self._poll_seconds - TIMEOUT_SECONDS)
                return
            self._over.wait(self._poll_seconds)
