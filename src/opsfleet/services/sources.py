"""For each kind of server, what is asked of it and how the answers are read: the one place that knows all kinds."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from opsfleet.domain.metrics import Reading
from opsfleet.domain.servers import ServerKind
from opsfleet.services import node_exporter
from opsfleet.services.metric_reports import read_agent
from opsfleet.services.reports import Judge, judge_agent
from opsfleet_agent import wire


class Source(NamedTuple):
    """What a kind of server is asked. Paths follow the `api_url`, which may name `given_path` at its end already."""

    health_path: str
    judge: Judge
    metrics_path: str
    read_metrics: Callable[[bytes], Reading]
    accept: str = "application/json"
    given_path: str = ""

    def prefix(self, path: str) -> str:
        """Return what stands before the paths, given the path of an `api_url`."""
        return path.removesuffix(self.given_path)


SOURCES: Mapping[ServerKind, Source] = {
    ServerKind.AGENT: Source(wire.HEALTH_PATH, judge_agent, wire.METRICS_PATH, read_agent),
    ServerKind.NODE_EXPORTER: Source(
        node_exporter.PATH,
        node_exporter.judge,
        node_exporter.PATH,
        node_exporter.read_metrics,
        accept=node_exporter.ACCEPT,
        given_path=node_exporter.PATH,
    ),
}
