"""Numbers in memory, shown to Prometheus when it asks. Recording never fails and never blocks for long.

Not the client library's own Counter and Gauge: they keep every series for ever, and a worker must forget the series of
a job that ended, and refuse the thirteenth loss term of a strange recipe.
"""

import threading
from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE_TEXT
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as generate_text
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from service.telemetry.catalogue import Metric

Labels = tuple[str, ...]


class _Histogram:
    def __init__(self, buckets: tuple[float, ...]) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        place = next((place for place, bound in enumerate(self.buckets) if value <= bound), len(self.buckets))
        self.counts[place] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        total, pairs = 0, []
        for bound, count in zip((*map(repr, map(float, self.buckets)), "+Inf"), self.counts, strict=True):
            total += count
            pairs.append((bound, float(total)))
        return pairs


class Recorder:
    """The series of one process. Every method may be called from any thread."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)
        self._lock = threading.Lock()
        self._values: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        self.forget(self._metrics)
        self._exposed = CollectorRegistry()
        self._exposed.register(self)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """The value of a gauge."""
        with self._lock:
            if self._has_room(metric, labels):
                self._values[metric.name][labels] = float(value)

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Adds to a counter (or a gauge)."""
        with self._lock:
            if self._has_room(metric, labels):
                values = self._values[metric.name]
                values[labels] = values.get(labels, 0.0) + amount

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """One observation of a histogram."""
        with self._lock:
            series = self._histograms[metric.name]
            if labels in series or len(series) < metric.most:
                series.setdefault(labels, _Histogram(metric.buckets)).observe(value)

    def switch(self, metric: Metric, label: str) -> None:
        """1 for this label value, 0 for all others: an enumeration."""
        with self._lock:
            values = self._values[metric.name]
            values.update(dict.fromkeys(values, 0.0))
            values[(label,)] = 1.0

    def value(self, metric: Metric, *labels: str) -> float | None:
        """What was last recorded."""
        with self._lock:
            return self._values[metric.name].get(labels)

    def forget(self, metrics: Iterable[Metric]) -> None:
        """Back to what is known from the start: zeros for known label values, nothing else."""
        with self._lock:
            for metric in metrics:
                if metric.kind == "histogram":
                    self._histograms[metric.name] = {}
                else:
                    self._values[metric.name] = dict.fromkeys(metric.known, 0.0)

    def collect(self) -> Iterator[Family]:
        """For prometheus_client: every family that has a series."""
        with self._lock:
            families = [self._family(metric) for metric in self._metrics]
        yield from (family for family in families if family.samples)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type, for an Accept header."""
        if "application/openmetrics-text" in accept:
            return generate_openmetrics(self._exposed), CONTENT_TYPE_LATEST
        return generate_text(self._exposed), CONTENT_TYPE_TEXT

    def _has_room(self, metric: Metric, labels: Labels) -> bool:
        values = self._values[metric.name]
        return len(labels) == len(metric.labels) and (labels in values or len(values) < metric.most)

    def _family(self, metric: Metric) -> Family:
        names = list(metric.labels)
        if metric.kind == "histogram":
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=names)
            for labels, series in self._histograms[metric.name].items():
                histogram.add_metric(list(labels), series.cumulative(), series.sum)
            return histogram
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = kind(metric.name, metric.help, labels=names)
        for labels, value in self._values[metric.name].items():
            family.add_metric(list(labels), value)
        return family
