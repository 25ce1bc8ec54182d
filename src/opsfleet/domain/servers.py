"""Managed servers: what one is."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from opsfleet.domain.health import HealthStatus


class ServerStatus(StrEnum):
    """What people decided. Only active servers are polled."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    MAINTENANCE = "maintenance"


class ServerKind(StrEnum):
    """What answers at a server's `api_url`: something that speaks the agent contract, or Prometheus' node_exporter."""

    AGENT = "agent"
    NODE_EXPORTER = "node_exporter"


@dataclass(frozen=True, slots=True)
class Server:
    """One managed server, as everybody of its organization may see it."""

    id: UUID
    organization_id: UUID
    name: str
    description: str
    hostname: str
    api_url: str
    ca_certificate: str | None
    version: str | None
    region: str | None
    environment: str | None
    kind: ServerKind
    status: ServerStatus
    health_status: HealthStatus | None
    last_seen_at: datetime | None
    last_health_check_at: datetime | None
    unreachable_since: datetime | None
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
