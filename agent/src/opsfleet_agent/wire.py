"""The types of the agent contract, version 1: what travels between the control plane and a managed server.

Every field may be absent or null. An absent component means "this server has none". Unknown keys are ignored.
"""

from typing import Any

import msgspec

CONTRACT_VERSION = 1
HEALTH_PATH = "/health"
METRICS_PATH = "/api/v1/metrics/current"
MAX_BODY_BYTES = 1024 * 1024


class ComponentHealth(msgspec.Struct, omit_defaults=True):
    """A database or a cache that the server depends on. `status` is "ok" or a word for what is wrong."""

    status: str | None = None
    latency_ms: float | None = None


class ServicesHealth(msgspec.Struct, omit_defaults=True):
    """The services that the server is there for. `failing` names those that do not run."""

    healthy: bool | None = None
    active: int | None = None
    failed: int | None = None
    total: int | None = None
    failing: list[str] | None = None


class Health(msgspec.Struct, omit_defaults=True):
    """The answer to `GET /health`. `uptime_seconds` is the machine's, not the agent's."""

    status: str | None = None
    version: str | None = None
    hostname: str | None = None
    uptime_seconds: float | None = None
    database: ComponentHealth | None = None
    redis: ComponentHealth | None = None
    services: ServicesHealth | None = None


class Metrics(msgspec.Struct, omit_defaults=True):
    """The answer to `GET /api/v1/metrics/current`, as an agent writes it.

    `*_percent` are gauges in 0 to 100; `*_services` and `*_users` are gauges; `network_*_bytes`, `llm_requests` and
    `llm_cost_usd` are counters that only grow and restart at zero with the agent.
    """

    cpu_percent: float | None = None
    memory_percent: float | None = None
    disk_percent: float | None = None
    network_rx_bytes: int | None = None
    network_tx_bytes: int | None = None
    active_services: int | None = None
    failed_services: int | None = None
    total_services: int | None = None
    llm_requests: int | None = None
    llm_cost_usd: float | None = None
    active_users: int | None = None
    total_users: int | None = None


health_decoder: "msgspec.json.Decoder[Health]" = msgspec.json.Decoder(Health)
encode = msgspec.json.encode


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode `body` as a JSON object of any shape; raises `msgspec.DecodeError` when it is anything else."""
    decoded: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    return decoded
