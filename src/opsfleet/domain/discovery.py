"""Servers as Prometheus discovers them: where one is scraped, and the labels that say what it is.

The format: https://prometheus.io/docs/prometheus/latest/http_sd/. Labels that begin with `__meta_` are gone after
relabelling, so there may be many of them.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from opsfleet.domain.api_urls import parse_api_url
from opsfleet.domain.servers import Server, ServerKind

PREFIX = "__meta_opsfleet_"

_NOT_IN_A_LABEL = re.compile(r"[^a-zA-Z0-9_]")


class TargetGroup(NamedTuple):
    """One server: its one target, a host and port, and its labels."""

    targets: tuple[str]
    labels: dict[str, str]


def target_group(server: Server, organization: str, groups: Sequence[str], port: int | None) -> TargetGroup:
    """Return what Prometheus is told of a server; `port` points to another exporter on the same host.

    What a server lacks has no label. Tags and groups are joined as `,a,b,`, so that a regular expression such as
    `.*,a,.*` finds one wherever it stands.
    """
    url = parse_api_url(server.api_url)
    host = f"[{url.host}]" if ":" in url.host else url.host
    facts = {
        "server_id": str(server.id),
        "name": server.name,
        "organization": organization,
        "region": server.region,
        "environment": server.environment,
        "kind": server.kind.value,
        "status": server.status.value,
        "health_status": server.health_status.value if server.health_status is not None else None,
        "version": server.version,
        "hostname": server.hostname,
        "tags": _joined(server.tags),
        "groups": _joined(groups),
    }
    labels = {f"{PREFIX}{name}": text for name, text in facts.items() if text}
    for tag in server.tags:
        labels[f"{PREFIX}tag_{_NOT_IN_A_LABEL.sub('_', tag)}"] = "true"
    if server.kind is ServerKind.NODE_EXPORTER and port is None:
        labels["__scheme__"] = "https" if url.tls else "http"
        labels["__metrics_path__"] = f"{url.path_prefix.removesuffix('/metrics')}/metrics"
    return TargetGroup((f"{host}:{port or url.port}",), labels)


def _joined(names: Sequence[str]) -> str:
    return f",{','.join(names)}," if names else ""
