"""Headless Chromium for tests, over a pipe of the DevTools protocol: no driver, no network, no further package.

with browser.page(path.as_uri(), width=390, height=844) as page:
    assert page.evaluate("document.title") == "..."
    page.screenshot(path)
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # in containers there is no user namespace to sandbox with; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
ANSWER_SECONDS = 60.0
FAREWELL_SECONDS = 10.0
READ_END, WRITE_END = 3, 4
"""The file descriptors that Chromium reads commands from and writes answers to."""


def find() -> str:
    """The path of a Chromium; without one the test is skipped, or fails where CI is set."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        message = f"no browser: none of {', '.join(NAMES)} is installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


class Browser:
    """One Chromium process and the pipe to it: JSON messages, each ended by a NUL byte."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        their_in, self._out = _pipe()
        self._in, their_out = _pipe()
        self._process = _start([find(), *FLAGS, f"--user-data-dir={self._profile.name}"], their_in, their_out)
        os.close(their_in)
        os.close(their_out)
        self._rest = b""
        self._last_id = 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its result; events that arrive meanwhile are kept in `events`."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.events.append(answer)

    def wait_for(self, method: str) -> None:
        """Waits until the event `method` has arrived."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._receive())

    def close(self) -> None:
        """Ends the process and removes its profile."""
        os.close(self._out)  # Chromium ends when its pipe does
        deadline = time.monotonic() + FAREWELL_SECONDS
        while not (ended := os.waitpid(self._process, os.WNOHANG)[0]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not ended:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        os.close(self._in)
        self._profile.cleanup()

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"the browser said nothing for {ANSWER_SECONDS:.0f} seconds")
            chunk = os.read(self._in, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser ended")
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))


class Page:
    """One open page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A DevTools command to this page."""
        return self._browser.send(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Presses and releases a key, on whatever has the focus."""
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def hover(self, x: float, y: float) -> None:
        """Moves the pointer to a place in the window."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def resize(self, width: int, height: int, *, scale: float = 1.0) -> None:
        """Makes the window so large, in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def prefer(self, scheme: str) -> None:
        """Makes the reader prefer "light" or "dark"."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Writes the page (or only the window) as PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(answer["data"]))

    def problems(self) -> list[str]:
        """What the console reported so far: errors, exceptions, blocked loads, violations of the content policy."""
        return [said for event in self._browser.events if (said := _problem(event))]

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


@contextmanager
def page(
    url: str, *, width: int = 1400, height: int = 900, scheme: str = "light", script: bool = True
) -> Iterator[Page]:
    """Opens `url` in a new Chromium and waits until it is loaded; `script=False` turns JavaScript off."""
    with Browser() as browser:
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        opened = Page(browser, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            opened.send(f"{domain}.enable")
        opened.resize(width, height)
        opened.prefer(scheme)
        if not script:
            opened.send("Emulation.setScriptExecutionDisabled", value=True)
        browser.events.clear()
        opened.send("Page.navigate", url=url)
        browser.wait_for("Page.loadEventFired")
        yield opened


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are none of the descriptors that Chromium's commands and answers go through."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, WRITE_END + 1) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _start(command: list[str], read_from: int, write_to: int) -> int:
    """Starts `command`, silent, with its descriptors 3 and 4 on the two pipes; returns its process id."""
    silent = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
    pipes = [(os.POSIX_SPAWN_DUP2, read_from, READ_END), (os.POSIX_SPAWN_DUP2, write_to, WRITE_END)]
    return os.posix_spawn(command[0], command, os.environ, file_actions=[*silent, *pipes])


def _problem(event: dict[str, Any]) -> str | None:
    parameters = event.get("params", {})
    match event.get("method"):
        case "Runtime.exceptionThrown":
            return str(parameters["exceptionDetails"])
        case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
            return str(parameters["args"])
        case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
            return str(parameters["entry"]["text"])
        case "Network.requestWillBeSent" if not parameters["request"]["url"].startswith(("file:", "data:")):
            return f"asked the network for {parameters['request']['url']}"
        case _:
            return None
