"""Serves the pages: GET and HEAD, one thread a request, on this machine only unless another address is asked for."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from service.background_server import BackgroundServer
from service.ui.pages import Answer, Pages

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
BROKEN = Answer(b"an error of gankiln itself\n", "text/plain; charset=utf-8", HTTPStatus.INTERNAL_SERVER_ERROR)
FOREIGN = Answer(b"this name is not served here\n", "text/plain; charset=utf-8", HTTPStatus.MISDIRECTED_REQUEST)


@dataclass(frozen=True)
class _Site:
    """What every request is answered from."""

    pages: Pages
    only_local: bool
    complain: Callable[[str], None]

    def answer(self, address: str, host: str) -> Answer:
        """The answer to a GET. Never raises."""
        if self.only_local and _name(host) not in LOCAL_NAMES:
            return FOREIGN
        try:
            return self.pages.answer(unquote(urlsplit(address).path))
        except Exception as error:  # one page that fails is no end of the others
            self.complain(f"{address[:200]!r}: {type(error).__name__}: {error}")
            return BROKEN


class _Handler(BaseHTTPRequestHandler):
    timeout = 30  # seconds: a client that stops reading frees its thread
    server_version, sys_version = "gankiln", ""

    def __init__(self, site: _Site, *args: Any) -> None:
        self._site = site
        super().__init__(*args)

    def do_GET(self) -> None:
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        self._send(with_body=False)

    def _send(self, *, with_body: bool) -> None:
        answer = self._site.answer(self.path, self.headers.get("Host", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Content-Security-Policy", answer.policy)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line."""


class PageServer(BackgroundServer):
    """Serves from the moment it is made until `close`.

    On a loopback address it answers only to a loopback name in `Host`: no web site can reach it by a name of its own
    that leads here (DNS rebinding).
    """

    def __init__(
        self, pages: Pages, host: str, port: int, complain: Callable[[str], None] = lambda _text: None
    ) -> None:
        site = _Site(pages, _is_loopback(host), complain)
        super().__init__(host, port, partial(_Handler, site), "ui")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(host: str) -> str:
    """The name in a `Host` header, without the port."""
    return urlsplit(f"//{host}").hostname or ""
