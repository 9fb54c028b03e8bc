"""A real Prometheus scrapes a real worker and exporter during real jobs; every query of every panel and alert has data.

What needs a GPU is imagined: the worker's driver library tells of one (gpu_worker.py), and dcgm.prom stands in for
NVIDIA's exporter. Everything else is measured.
"""

import functools
import http.server
import json
import math
import os
import re
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.deploy.tools import ROOT, free_port, process, program, spec, wait_for
from tests.monitoring import ALERTS, RULES, alert_queries, dashboard_queries, selector_texts

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]
JOBS = {"usual": 50, "urgent": 90, "urgent-too": 90}
"""Their priorities."""
STUDY = "study: {ablate: {recipe.r1.gamma: [2.0]}, seeds: 2}"
RUNS = 4
"""Of the study that is open meanwhile."""
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: gankiln
    static_configs:
      - targets: ["127.0.0.1:{worker}", "127.0.0.1:{exporter}"]
  - job_name: dcgm
    static_configs:
      - targets: ["127.0.0.1:{dcgm}"]
"""


class Prometheus:
    """Answers queries over the time that the jobs took."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.started = time.time()
        self.ended = math.nan

    def get(self, path: str, **parameters: object):
        with urllib.request.urlopen(
            f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=60
        ) as answer:
            return json.load(answer)["data"]

    def range(self, query: str) -> list[float]:
        """Every value that the query had at any time, NaN left out."""
        found = self.get("query_range", query=query, start=self.started, end=self.ended, step=1)
        values = (float(value) for series in found["result"] for _, value in series["values"])
        return [value for value in values if not math.isnan(value)]


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class _Dcgm(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(Path(__file__).with_name("dcgm.prom").read_bytes())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    binary = program("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    store = folder / "store"
    dcgm = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Dcgm)
    threading.Thread(target=dcgm.serve_forever, daemon=True).start()
    ports = {"worker": free_port(), "exporter": free_port(), "dcgm": dcgm.server_address[1]}
    port = free_port()
    (folder / "prometheus.yml").write_text(CONFIG.format(rules=RULES, **ports))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GANKILN_STORE": str(store),
        "GANKILN_HOME": str(folder / "home"),
        "GANKILN_METRICS_HOST": "127.0.0.1",
        "GANKILN_POLL_SECONDS": "1",
        "GANKILN_HEARTBEAT_SECONDS": "2",
        "GANKILN_SCAN_SECONDS": "1",
    }
    start = functools.partial(process, cwd=folder, env=environment)
    data = f"--storage.tsdb.path={folder / 'data'}"
    address = f"--web.listen-address=127.0.0.1:{port}"
    config = f"--config.file={folder / 'prometheus.yml'}"
    exporter = [sys.executable, "-m", "service", "exporter", "--port", ports["exporter"]]
    worker = [sys.executable, "-m", "tests.deploy.gpu_worker"]
    with (
        start(binary, config, data, address, log=folder / "prometheus.log"),
        start(*exporter, log=folder / "exporter.log"),
        start(*worker, log=folder / "worker.log", env=environment | {"GANKILN_METRICS_PORT": str(ports["worker"])}),
    ):
        asked = Prometheus(f"http://127.0.0.1:{port}")
        wait_for("Prometheus", lambda: _ready(f"{asked.url}/-/ready"), 60)
        for name in ("worker", "exporter"):
            wait_for(name, lambda name=name: _ready(f"http://127.0.0.1:{ports[name]}/readyz"), 120)
        time.sleep(3)  # two scrapes before anything happens: a rate needs a beginning
        for name, priority in JOBS.items():  # more than one, so that some wait and a counter counts twice
            (store / "inbox" / f"{name}.yaml").write_text(f"{spec(name)}queue: {{priority: {priority}}}\n")
        (store / "inbox" / "compared.yaml").write_text(f"{spec('compared')}{STUDY}\n")
        wait_for("results", lambda: len(list(store.glob("results/*/*/_SUCCESS"))) >= len(JOBS) + RUNS, 600)
        time.sleep(5)
        asked.ended = time.time()
        yield asked
    dcgm.shutdown()
    dcgm.server_close()


def test_every_target_is_scraped(prometheus):
    targets = prometheus.get("targets")["activeTargets"]
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")] * 3


def test_every_rule_is_evaluated_without_an_error(prometheus):
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == ALERTS.keys()
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize(("where", "query"), dashboard_queries(), ids=lambda value: value if "/" in value else "")
def test_every_query_of_a_dashboard_returns_data(prometheus, where, query):
    assert prometheus.range(query), f"{where}: {query}"


@pytest.mark.parametrize(("where", "query"), alert_queries(), ids=lambda value: value if "/" in value else "")
def test_everything_that_an_alert_reads_is_there(prometheus, where, query):
    """Healthy, an alert returns nothing, so its selectors are asked; errors that did not happen have no series."""
    for selector in selector_texts(query):
        anything = re.sub(r'code!~"[^"]*"(,\s*)?', "", selector)
        assert prometheus.range(anything), f"{where}: {anything}"


def test_no_alert_about_the_store_or_the_worker_fires(prometheus):
    assert prometheus.range('ALERTS{alertstate="firing"}') == []
