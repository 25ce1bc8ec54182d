"""The control plane's own metrics, collected when they are asked for."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_HEALTH_COUNTERS = {
    "checks_performed": ("opsfleet_health_checks", "Health checks performed."),
    "checks_failed": ("opsfleet_health_checks_failed", "Health checks of servers that were unreachable or broke."),
    "cycles": ("opsfleet_health_cycles", "Health cycles completed."),
    "cycles_skipped": ("opsfleet_health_cycles_skipped", "Health cycles skipped because the one before still ran."),
    "cycles_failed": ("opsfleet_health_cycles_failed", "Health cycles that ended with an error."),
    "cycles_suspect": ("opsfleet_health_cycles_suspect", "Health cycles in which no server could be reached."),
    "results_dropped": ("opsfleet_health_results_dropped", "Health results that could not be stored."),
}
_HEALTH_GAUGES = {
    "running": ("opsfleet_health_worker_running", "Whether the health worker runs in this process."),
    "last_duration_seconds": ("opsfleet_health_cycle_duration_seconds", "Duration of the last health cycle."),
    "lag_seconds": ("opsfleet_health_cycle_lag_seconds", "How late the last batch of the last cycle was launched."),
    "results_buffered": ("opsfleet_health_results_buffered", "Health results that wait to be stored."),
    "in_flight": ("opsfleet_polls_in_flight", "Requests to servers that are open."),
}
_METRICS_COUNTERS = {
    "collections_performed": ("opsfleet_metrics_collections", "Metrics collections performed."),
    "collections_failed": ("opsfleet_metrics_collections_failed", "Metrics collections of which no row was stored."),
    "total_metrics_collected": ("opsfleet_metrics_values", "Metric values stored."),
    "cycles": ("opsfleet_metrics_cycles", "Metrics cycles completed."),
    "cycles_skipped": ("opsfleet_metrics_cycles_skipped", "Metrics cycles skipped because the one before still ran."),
    "cycles_failed": ("opsfleet_metrics_cycles_failed", "Metrics cycles that ended with an error."),
    "results_dropped": ("opsfleet_metrics_results_dropped", "Metrics results that could not be stored."),
}
_METRICS_GAUGES = {
    "running": ("opsfleet_metrics_worker_running", "Whether the metrics worker runs in this process."),
    "last_duration_seconds": ("opsfleet_metrics_cycle_duration_seconds", "Duration of the last metrics cycle."),
    "lag_seconds": ("opsfleet_metrics_cycle_lag_seconds", "How late the last batch of the last cycle was launched."),
    "results_buffered": ("opsfleet_metrics_results_buffered", "Metrics results that wait to be stored."),
}
_WORKERS = {
    "health_worker": (_HEALTH_COUNTERS, _HEALTH_GAUGES),
    "metrics_worker": (_METRICS_COUNTERS, _METRICS_GAUGES),
}


class _WorkerCollector(Collector):
    def __init__(self, statistics: Callable[[], Mapping[str, Any]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the workers of this process."""
        for kind, statistics in self._statistics().items():
            counters, gauges = _WORKERS[kind]
            for key, (name, text) in counters.items():
                yield CounterMetricFamily(name, text, value=float(statistics.get(key) or 0))
            for key, (name, text) in gauges.items():
                yield GaugeMetricFamily(name, text, value=float(statistics.get(key) or 0))


def own_metrics(statistics: Callable[[], Mapping[str, Any]] | None) -> CollectorRegistry:
    """Return a registry of this process's metrics; `statistics` is there when it runs the workers."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    if statistics is not None:
        registry.register(_WorkerCollector(statistics))
    return registry
