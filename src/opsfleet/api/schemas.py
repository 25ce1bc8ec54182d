"""What travels over the API, for the OpenAPI document. Validation of what people send is the domain's."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

Health = Literal["healthy", "degraded", "critical", "unreachable"]
Status = Literal["active", "inactive", "maintenance"]
Kind = Literal["agent", "node_exporter"]


class FieldProblem(BaseModel):
    """One wrong field; for an import also its row."""

    field: str
    message: str
    row: int | None = None
    name: str | None = None


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:opsfleet:problem:not_found",
                "title": "Not found",
                "status": 404,
                "detail": "there is no server 01930f6e-7a00-7000-8000-000000000000",
                "code": "not_found",
                "request_id": "01930f6e7b007000a1b2c3d4e5f60718",
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None
    errors: list[FieldProblem] | None = None


_REGISTRATION: JsonDict = {
    "name": "prod-east-1",
    "hostname": "prod-east-1.example.com",
    "api_url": "https://prod-east-1.example.com:9100",
    "api_token": "the token that the agent accepts",
    "region": "us-east",
    "environment": "production",
    "tags": ["web", "eu"],
}
_NODE_EXPORTER: JsonDict = {
    "name": "prod-east-2",
    "hostname": "prod-east-2.example.com",
    "kind": "node_exporter",
    "api_url": "https://prod-east-2.example.com:9100",
}


class ServerRegistration(BaseModel):
    """A server to be registered."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_REGISTRATION, _NODE_EXPORTER]})

    name: str = Field(min_length=1, max_length=200, description="Unique in the organization.")
    hostname: str = Field(min_length=1, max_length=253)
    kind: Kind | None = Field(default=None, description="What answers there; an agent unless given.")
    api_url: str = Field(
        max_length=2048, description="Where its agent answers; of a node_exporter, with or without /metrics at the end."
    )
    api_token: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Required for an agent. Stored encrypted, never returned.",
    )
    description: str | None = Field(default=None, max_length=2000)
    region: str | None = Field(default=None, max_length=200)
    environment: str | None = Field(default=None, max_length=200)
    tags: list[str] | None = Field(default=None, max_length=100)
    metadata: dict[str, Any] | None = Field(default=None, description="Free facts; at most 1,000 values, 10 deep.")
    ca_certificate: str | None = Field(default=None, description="PEM bundle to trust instead of the system's.")


class ServerChange(BaseModel):
    """The fields of a server to be changed; those left out stay."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"status": "maintenance", "tags": ["web", "draining"]}}
    )

    name: str | None = Field(default=None, min_length=1, max_length=200)
    hostname: str | None = Field(default=None, min_length=1, max_length=253)
    kind: Kind | None = Field(default=None, description="A server becomes an agent only when it has a token.")
    api_url: str | None = Field(default=None, max_length=2048)
    description: str | None = Field(default=None, max_length=2000)
    region: str | None = Field(default=None, max_length=200)
    environment: str | None = Field(default=None, max_length=200)
    status: Status | None = None
    tags: list[str] | None = Field(default=None, max_length=100)
    metadata: dict[str, Any] | None = None
    ca_certificate: str | None = None


class ServerImport(BaseModel):
    """Servers to be registered together, all or nothing."""

    model_config = ConfigDict(json_schema_extra={"example": {"servers": [_REGISTRATION, _NODE_EXPORTER]}})

    servers: list[ServerRegistration] = Field(min_length=1, max_length=100_000)


class ImportResult(BaseModel):
    """What an import did."""

    model_config = ConfigDict(json_schema_extra={"example": {"imported": 2500}})

    imported: int


class TokenReplacement(BaseModel):
    """Another token for a server."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"api_token": "the token that the agent accepts now"}}
    )

    api_token: str = Field(min_length=1, max_length=4096)


class ServerResource(BaseModel):
    """A managed server."""

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
    kind: Kind
    status: Status
    health_status: Health | None
    last_seen_at: datetime | None
    last_health_check_at: datetime | None
    unreachable_since: datetime | None
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class HealthCheckResource(BaseModel):
    """One health check. A null component means that the server has none."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "server_id": "01930f6e-7a00-7000-8000-000000000000",
                "timestamp": "2026-01-26T14:30:15.123456Z",
                "status": "degraded",
                "response_time_ms": 12.5,
                "database_healthy": True,
                "redis_healthy": None,
                "services_healthy": False,
                "error_message": "1 of 12 services failed: nginx",
                "error_details": {"kind": "services"},
            }
        }
    )

    server_id: UUID
    timestamp: datetime
    status: Health
    response_time_ms: float | None
    database_healthy: bool | None
    redis_healthy: bool | None
    services_healthy: bool | None
    error_message: str | None
    error_details: dict[str, Any] | None


class RegisteredServer(ServerResource):
    """A server just registered, with its first health check; null when the check could not be made."""

    health_check: HealthCheckResource | None


class ServerList(BaseModel):
    """One page of servers."""

    items: list[ServerResource]
    next_cursor: str | None
    total: int | None = None


class SecondsByHealth(BaseModel):
    """The seconds of a range in each health, and those in which nobody checked; together they are the range."""

    healthy: float
    degraded: float
    critical: float
    unreachable: float
    unmonitored: float


class UptimeResource(BaseModel):
    """How long a server was up. `uptime_percent` is of the monitored time, and null when there is none."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "start": "2026-01-25T14:30:00Z",
                "end": "2026-01-26T14:30:00Z",
                "uptime_percent": 99.8744,
                "seconds": {
                    "healthy": 85_800.0,
                    "degraded": 60.0,
                    "critical": 0.0,
                    "unreachable": 108.0,
                    "unmonitored": 432.0,
                },
            }
        }
    )

    start: datetime
    end: datetime
    uptime_percent: float | None
    seconds: SecondsByHealth


class HealthHistory(BaseModel):
    """One page of health checks, newest first, and the uptime over the whole range."""

    uptime: UptimeResource
    items: list[HealthCheckResource]
    next_cursor: str | None


class TransitionResource(BaseModel):
    """A change of a server's health; `from_status` is null at its first check."""

    server_id: UUID
    from_status: Health | None
    to_status: Health
    at: datetime
    reason: str | None


class TransitionList(BaseModel):
    """One page of changes of health, newest first."""

    items: list[TransitionResource]
    next_cursor: str | None


class HealthWorkerStatus(BaseModel):
    """Statistics of the health worker since its start."""

    model_config = ConfigDict(extra="allow")

    running: bool
    interval_seconds: float
    checks_performed: int
    checks_successful: int
    checks_failed: int
    success_rate: float
    last_run: datetime | None
    last_duration_seconds: float | None


class MetricsWorkerStatus(BaseModel):
    """Statistics of the metrics worker since its start."""

    model_config = ConfigDict(extra="allow")

    running: bool
    interval_seconds: float
    collections_performed: int
    collections_successful: int
    collections_failed: int
    success_rate: float
    total_metrics_collected: int
    last_run: datetime | None
    last_duration_seconds: float | None


class WorkerInstanceResource(BaseModel):
    """One process of the control plane."""

    id: UUID
    role: str
    host: str
    pid: int
    state: Literal["active", "standby", "none"]
    started_at: datetime
    heartbeat_at: datetime


class WorkersStatusResource(BaseModel):
    """Both workers and all instances."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "health_worker": {
                    "running": True,
                    "interval_seconds": 30,
                    "checks_performed": 1250,
                    "checks_successful": 1180,
                    "checks_failed": 70,
                    "success_rate": 94.4,
                    "last_run": "2026-01-26T14:30:15.123456Z",
                    "last_duration_seconds": 2.34,
                },
                "metrics_worker": {
                    "running": False,
                    "interval_seconds": 60,
                    "collections_performed": 0,
                    "collections_successful": 0,
                    "collections_failed": 0,
                    "success_rate": 0,
                    "total_metrics_collected": 0,
                    "last_run": None,
                    "last_duration_seconds": None,
                },
                "instances": [
                    {
                        "id": "019c0a60-3f51-7c62-9a53-3d6a4f0b1f10",
                        "role": "worker",
                        "host": "fleet-1",
                        "pid": 4711,
                        "state": "active",
                        "started_at": "2026-01-26T08:00:00.000000Z",
                        "heartbeat_at": "2026-01-26T14:30:29.500000Z",
                    }
                ],
                "timestamp": "2026-01-26T14:30:30.000000Z",
            }
        }
    )

    health_worker: HealthWorkerStatus
    metrics_worker: MetricsWorkerStatus
    instances: list[WorkerInstanceResource]
    timestamp: datetime


class Liveness(BaseModel):
    """The process lives."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether the process can do its work; each check is `ok` or says what is wrong."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "ok", "checks": {"database": "ok", "schema": "ok", "workers": "ok"}}}
    )

    status: Literal["ok", "not_ready"]
    checks: dict[str, str]
