"""What Prometheus reads at ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mace_core.activity import sessions
from mace_core.requests.queue import queues
from mace_core.serving.failures import Fault

if TYPE_CHECKING:
    from mace_core.serving.models import Models

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; upper ends of the buckets."""

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Requests in a batch; upper ends of the buckets."""


class Metrics:
    """Counters of one server; those of sessions and queues are read when somebody asks."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mace_requests", "Requests answered, by model and result.", ["model", "result"], registry=self._registry
        )
        self._refused = Counter(
            "mace_refused_requests",
            "Requests refused before they reached a model.",
            ["status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mace_request_seconds",
            "From the request's arrival in the queue to its result.",
            ["model"],
            buckets=LATENCIES,
            registry=self._registry,
        )
        self._children: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._in_flight: Callable[[], int] = lambda: 0
        self._registry.register(_Live(self))

    def watch(self, models: Models) -> None:
        """Show how many requests of ``models`` are on their way, and all of them from the beginning."""
        self._in_flight = lambda: models.in_flight
        for name in models:
            self._child(name, "success")

    @property
    def in_flight(self) -> int:
        """Requests on their way."""
        return self._in_flight()

    def observe(self, model: str, fault: Fault | None, seconds: float) -> None:
        """A request reached its model, and took so long."""
        count, histogram = self._child(model, "success" if fault is None else fault.name.lower())
        count.inc()
        histogram.observe(seconds)

    def refused(self, fault: Fault) -> None:
        """A request did not get that far."""
        self._refused.labels(str(fault.status)).inc()

    def _child(self, model: str, result: str) -> tuple[Any, Any]:
        key = (model, result)
        if key not in self._children:
            self._children[key] = self._requests.labels(*key), self._seconds.labels(model)
        return self._children[key]

    def text(self) -> tuple[bytes, str]:
        """The exposition, and its media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Live:
    """What is counted elsewhere."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        yield GaugeMetricFamily("mace_requests_in_flight", "Requests on their way.", value=self._metrics.in_flight)
        waiting = GaugeMetricFamily("mace_queue_waiting", "Requests that wait for a device.", labels=["device"])
        running = GaugeMetricFamily("mace_queue_running", "Requests that a device runs.", labels=["device"])
        busy = CounterMetricFamily(
            "mace_device_busy_seconds", "Time a device's queue had something running.", labels=["device"]
        )
        batches = HistogramMetricFamily("mace_batch_requests", "Requests answered by one run.", labels=["device"])
        for queue in queues():
            waiting.add_metric([queue.name], queue.waiting)
            running.add_metric([queue.name], queue.running)
            busy.add_metric([queue.name], queue.busy_seconds)
            counts = dict(queue.batch_sizes)
            buckets = [(f"{end}.0", sum(n for size, n in counts.items() if size <= end)) for end in SIZES]
            buckets.append(("+Inf", sum(counts.values())))
            batches.add_metric([queue.name], buckets, sum(size * n for size, n in counts.items()))
        yield from (waiting, running, busy, batches)
        runs = CounterMetricFamily(
            "mace_session_runs", "Runs of a session that ended well.", labels=["model", "number"]
        )
        failed = CounterMetricFamily("mace_session_failures", "Runs that did not.", labels=["model", "number"])
        spent = CounterMetricFamily("mace_session_busy_seconds", "Time spent in runs.", labels=["model", "number"])
        for session in sessions():
            labels = [session.model, str(session.number)]
            runs.add_metric(labels, session.runs)
            failed.add_metric(labels, session.failures)
            spent.add_metric(labels, session.busy_seconds)
        yield from (runs, failed, spent)
