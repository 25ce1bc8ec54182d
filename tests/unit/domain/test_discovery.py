"""What Prometheus is told of a server."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from opsfleet.domain.discovery import target_group
from opsfleet.domain.health import HealthStatus
from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.domain.servers import Server, ServerKind, ServerStatus

NOW = datetime.now(UTC)
SERVER = Server(
    id=new_id(),
    organization_id=DEFAULT_ORGANIZATION,
    name="web-1",
    description="",
    hostname="web-1.internal",
    api_url="https://web-1.example.com:9443/node",
    ca_certificate=None,
    version="1.9.1",
    region="eu",
    environment="production",
    kind=ServerKind.NODE_EXPORTER,
    status=ServerStatus.ACTIVE,
    health_status=HealthStatus.DEGRADED,
    last_seen_at=NOW,
    last_health_check_at=NOW,
    unreachable_since=None,
    tags=["web", "tier:1"],
    metadata={},
    created_at=NOW,
    updated_at=NOW,
)


def test_everything_that_is_known_is_a_label() -> None:
    group = target_group(SERVER, "default", ["edge", "frontends"], None)
    assert group.targets == ("web-1.example.com:9443",)
    assert group.labels == {
        "__meta_opsfleet_server_id": str(SERVER.id),
        "__meta_opsfleet_name": "web-1",
        "__meta_opsfleet_organization": "default",
        "__meta_opsfleet_region": "eu",
        "__meta_opsfleet_environment": "production",
        "__meta_opsfleet_kind": "node_exporter",
        "__meta_opsfleet_status": "active",
        "__meta_opsfleet_health_status": "degraded",
        "__meta_opsfleet_version": "1.9.1",
        "__meta_opsfleet_hostname": "web-1.internal",
        "__meta_opsfleet_tags": ",web,tier:1,",
        "__meta_opsfleet_groups": ",edge,frontends,",
        "__meta_opsfleet_tag_web": "true",
        "__meta_opsfleet_tag_tier_1": "true",
        "__scheme__": "https",
        "__metrics_path__": "/node/metrics",
    }


def test_what_a_server_lacks_has_no_label() -> None:
    bare = replace(SERVER, region=None, environment=None, version=None, health_status=None, tags=[])
    labels = target_group(bare, "default", [], None).labels
    for name in ("region", "environment", "version", "health_status", "tags", "groups"):
        assert f"__meta_opsfleet_{name}" not in labels


@pytest.mark.parametrize(
    ("api_url", "port", "target"),
    [
        ("https://web-1.example.com", None, "web-1.example.com:443"),
        ("http://192.0.2.7/metrics", None, "192.0.2.7:80"),
        ("https://[2001:DB8::1]", None, "[2001:db8::1]:443"),
        ("https://[2001:db8::1]:9443", 9187, "[2001:db8::1]:9187"),
    ],
)
def test_the_target(api_url: str, port: int | None, target: str) -> None:
    group = target_group(replace(SERVER, api_url=api_url), "default", [], port)
    assert group.targets == (target,)
    assert group.labels.get("__metrics_path__") == (None if port else "/metrics")


def test_only_a_node_exporter_says_how_it_is_scraped() -> None:
    agent = target_group(replace(SERVER, kind=ServerKind.AGENT), "default", [], None)
    other = target_group(SERVER, "default", [], 9187)
    for group in (agent, other):
        assert not {"__scheme__", "__metrics_path__"} & group.labels.keys()


def test_names_of_labels_are_such_as_prometheus_accepts() -> None:
    labels = target_group(replace(SERVER, tags=["größe 1", "a-b.c"]), "default", [], None).labels
    assert labels["__meta_opsfleet_tags"] == ",größe 1,a-b.c,"
    assert {"__meta_opsfleet_tag_gr__e_1", "__meta_opsfleet_tag_a_b_c"} < labels.keys()
