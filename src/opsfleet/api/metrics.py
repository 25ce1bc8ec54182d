"""The control plane's own metrics, collected when they are asked for."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_COUNTERS = {
    "checks_performed": ("opsfleet_health_checks", "Health checks performed."),
    "checks_failed": ("opsfleet_health_checks_failed", "Health checks of servers that were unreachable or broke."),
    "cycles": ("opsfleet_health_cycles", "Health cycles completed."),
    "cycles_skipped": ("opsfleet_health_cycles_skipped", "Health cycles skipped because the one before still ran."),
    "cycles_failed": ("opsfleet_health_cycles_failed", "Health cycles that ended with an error."),
    "cycles_suspect": ("opsfleet_health_cycles_suspect", "Health cycles in which no server could be reached."),
    "results_dropped": ("opsfleet_health_results_dropped", "Health results that could not be stored."),
}
_GAUGES = {
    "running": ("opsfleet_health_worker_running", "Whether the health worker runs in this process."),
    "last_duration_seconds": ("opsfleet_health_cycle_duration_seconds", "Duration of the last health cycle."),
    "lag_seconds": ("opsfleet_health_cycle_lag_seconds", "How late the last batch of the last cycle was launched."),
    "results_buffered": ("opsfleet_health_results_buffered", "Health results that wait to be stored."),
    "in_flight": ("opsfleet_polls_in_flight", "Requests to servers that are open."),
}


class _WorkerCollector(Collector):
    def __init__(self, statistics: Callable[[], Mapping[str, Any]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the health worker of this process."""
        statistics = self._statistics()
        for key, (name, text) in _COUNTERS.items():
            yield CounterMetricFamily(name, text, value=float(statistics.get(key) or 0))
        for key, (name, text) in _GAUGES.items():
            yield GaugeMetricFamily(name, text, value=float(statistics.get(key) or 0))


def metrics_registry(health_statistics: Callable[[], Mapping[str, Any]] | None) -> CollectorRegistry:
    """Return a registry of this process's metrics; `health_statistics` is there when it runs the health worker."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    if health_statistics is not None:
        registry.register(_WorkerCollector(health_statistics))
    return registry
