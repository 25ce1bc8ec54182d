"""The fleet at a glance, for the OpenAPI document."""

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict


class CountByStatus(BaseModel):
    """Servers by what people decided."""

    active: int
    inactive: int
    maintenance: int


class CountByHealth(BaseModel):
    """Active servers by health; `unchecked` are those without a first check."""

    healthy: int
    degraded: int
    critical: int
    unreachable: int
    unchecked: int


class ServerCounts(BaseModel):
    """How many servers there are."""

    total: int
    by_status: CountByStatus
    by_health: CountByHealth


class PlaceCount(BaseModel):
    """Servers of one region or environment; `name` is null for those without."""

    name: str | None
    servers: int


class LastMetrics(BaseModel):
    """Averages over the servers that reported in the newest finished minute."""

    timestamp: datetime
    servers: int
    cpu_percent: float | None
    memory_percent: float | None
    disk_percent: float | None


class UserCounts(BaseModel):
    """Users of all servers together in that minute; null when no server says."""

    active: int | None
    total: int | None


class LlmToday(BaseModel):
    """LLM requests and their cost in US dollars, of the day (UTC) so far."""

    date: date
    requests: int
    cost_usd: float


class SummaryResource(BaseModel):
    """The fleet at a glance. `metrics` is null when the newest minute is older than 5 minutes."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "servers": {
                    "total": 50,
                    "by_status": {"active": 48, "inactive": 1, "maintenance": 1},
                    "by_health": {"healthy": 44, "degraded": 2, "critical": 1, "unreachable": 1, "unchecked": 0},
                },
                "regions": [{"name": "eu-west", "servers": 20}, {"name": "us-east", "servers": 30}],
                "environments": [{"name": "production", "servers": 49}, {"name": None, "servers": 1}],
                "metrics": {
                    "timestamp": "2026-01-26T14:29:00Z",
                    "servers": 46,
                    "cpu_percent": 31.42,
                    "memory_percent": 58.07,
                    "disk_percent": 44.6,
                },
                "users": {"active": 1_204, "total": 18_350},
                "llm_today": {"date": "2026-01-26", "requests": 48_211, "cost_usd": 127.4025},
            }
        }
    )

    servers: ServerCounts
    regions: list[PlaceCount]
    environments: list[PlaceCount]
    metrics: LastMetrics | None
    users: UserCounts
    llm_today: LlmToday
