"""Series of metrics, for the OpenAPI document."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

PeriodName = Literal["1m", "5m", "15m", "1h", "1d"]


class LastCollectionResource(BaseModel):
    """When values were last collected from a server, and what was wrong with the newest attempt."""

    collected_at: datetime | None
    error: str | None


class SeriesColumns(BaseModel):
    """A column for each value, with one place for each timestamp; null where nothing was collected.

    Percentages are averages, `_max` their maxima; network, LLM requests and cost are what was added in the bucket;
    services and users are the last value; `sample_count` is the number of collections.
    """

    cpu_percent: list[float | None]
    cpu_percent_max: list[float | None]
    memory_percent: list[float | None]
    memory_percent_max: list[float | None]
    disk_percent: list[float | None]
    disk_percent_max: list[float | None]
    network_rx_bytes: list[int | None]
    network_tx_bytes: list[int | None]
    llm_requests: list[int | None]
    llm_cost_usd: list[float | None]
    active_services: list[int | None]
    failed_services: list[int | None]
    total_services: list[int | None]
    active_users: list[int | None]
    total_users: list[int | None]
    sample_count: list[int | None]


_COLUMNS_EXAMPLE: dict[str, Any] = {
    "cpu_percent": [23.5, None],
    "cpu_percent_max": [61.2, None],
    "memory_percent": [48.1, None],
    "memory_percent_max": [48.3, None],
    "disk_percent": [71.0, None],
    "disk_percent_max": [71.0, None],
    "network_rx_bytes": [1_048_576, None],
    "network_tx_bytes": [524_288, None],
    "llm_requests": [42, None],
    "llm_cost_usd": [0.3125, None],
    "active_services": [12, None],
    "failed_services": [0, None],
    "total_services": [12, None],
    "active_users": [17, None],
    "total_users": [230, None],
    "sample_count": [5, None],
}


class ServerSeriesResource(BaseModel):
    """One server's metrics over time: `timestamps` and `columns`, or `rows` when they were asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "server_id": "01930f6e-7a00-7000-8000-000000000000",
                "period": "5m",
                "start": "2026-01-26T14:30:00Z",
                "end": "2026-01-26T14:40:00Z",
                "last_collection": {"collected_at": "2026-01-26T14:34:10.402Z", "error": "connection refused"},
                "timestamps": ["2026-01-26T14:30:00Z", "2026-01-26T14:35:00Z"],
                "columns": _COLUMNS_EXAMPLE,
            }
        }
    )

    server_id: UUID
    period: PeriodName
    start: datetime
    end: datetime
    last_collection: LastCollectionResource
    timestamps: list[datetime] | None = None
    columns: SeriesColumns | None = None
    rows: list[dict[str, Any]] | None = None


class FleetSeriesColumns(SeriesColumns):
    """A column for each value, with one place for each timestamp; `servers` is how many had values."""

    servers: list[int | None]


class KeySeriesResource(BaseModel):
    """The metrics of the servers under one key; `label` is its name for people, such as a group's."""

    key: str | None
    label: str | None
    columns: FleetSeriesColumns | None = None
    rows: list[dict[str, Any]] | None = None


class FleetSeriesResource(BaseModel):
    """Many servers' metrics over time: `timestamps` and each key's `columns`, or `rows` when they were asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "group_by": "region",
                "period": "5m",
                "start": "2026-01-26T14:30:00Z",
                "end": "2026-01-26T14:40:00Z",
                "timestamps": ["2026-01-26T14:30:00Z", "2026-01-26T14:35:00Z"],
                "series": [
                    {"key": "us-east", "label": "us-east", "columns": {**_COLUMNS_EXAMPLE, "servers": [12, None]}}
                ],
            }
        }
    )

    group_by: Literal["none", "region", "environment", "group", "tag"]
    period: PeriodName
    start: datetime
    end: datetime
    timestamps: list[datetime] | None = None
    series: list[KeySeriesResource]


class CollectedValues(BaseModel):
    """What a server reported. Network, LLM requests and cost are its own totals, which only grow."""

    cpu_percent: float | None
    memory_percent: float | None
    disk_percent: float | None
    active_services: int | None
    failed_services: int | None
    total_services: int | None
    active_users: int | None
    total_users: int | None
    network_rx_bytes: int | None
    network_tx_bytes: int | None
    llm_requests: int | None
    llm_cost_usd: float | None


class CollectionResource(BaseModel):
    """One collection. Without `values` it failed; `error` says why, or which values were dropped."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "server_id": "01930f6e-7a00-7000-8000-000000000000",
                "collected_at": "2026-01-26T14:30:15.123456Z",
                "minute": "2026-01-26T14:30:00Z",
                "values": {
                    "cpu_percent": 23.5,
                    "memory_percent": 48.1,
                    "disk_percent": None,
                    "active_services": 12,
                    "failed_services": 0,
                    "total_services": 12,
                    "active_users": 17,
                    "total_users": 230,
                    "network_rx_bytes": 1_048_576,
                    "network_tx_bytes": 524_288,
                    "llm_requests": 42,
                    "llm_cost_usd": 0.3125,
                },
                "error": "dropped disk_percent: must be 0 to 100, not 140",
            }
        }
    )

    server_id: UUID
    collected_at: datetime
    minute: datetime
    values: CollectedValues | None
    error: str | None
