"""History of metrics as roll-ups would have left it, made in SQL."""

from datetime import datetime
from typing import Any
from uuid import UUID

from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.store.database import Database


async def execute(database: Database, query: str, *values: Any) -> None:
    """Run a statement."""
    async with database.connection() as connection:
        await connection.execute(query, *values)


async def other_organization(database: Database) -> UUID:
    """Make another organization."""
    found = new_id()
    await execute(database, "INSERT INTO organizations (id, name, slug) VALUES ($1, 'Other', 'other')", found)
    return found


async def add_server(
    database: Database, name: str, organization_id: UUID = DEFAULT_ORGANIZATION, **columns: Any
) -> UUID:
    """Register a server without an agent; `columns` are those of its row."""
    found = new_id()
    row: dict[str, Any] = {
        "id": found,
        "organization_id": organization_id,
        "name": name,
        "hostname": name,
        "api_url": "http://127.0.0.1:9",
        "api_token_hash": b"",
        "api_token_ciphertext": b"",
        "status": "inactive",
        **columns,
    }
    await _insert(database, "managed_servers", row)
    return found


async def add_row(database: Database, server_id: UUID, period: str, timestamp: datetime, **columns: Any) -> None:
    """Store one bucket of a server's metrics."""
    row = {"server_id": server_id, "period": period, "timestamp": timestamp, "sample_count": 1, **columns}
    await _insert(database, "server_metrics_aggregated", row)


async def add_fleet_row(
    database: Database,
    period: str,
    timestamp: datetime,
    organization_id: UUID = DEFAULT_ORGANIZATION,
    *,
    region: str = "",
    environment: str = "",
    servers: int = 1,
    cpu: float = 0.0,
    **columns: Any,
) -> None:
    """Store one bucket of an organization's metrics; `cpu` is the average over its `servers`, and their maximum."""
    row = {
        "organization_id": organization_id,
        "period": period,
        "timestamp": timestamp,
        "region": region,
        "environment": environment,
        "servers": servers,
        "sample_count": servers,
        "cpu_percent_sum": cpu * servers,
        "cpu_percent_count": servers,
        "cpu_percent_max": cpu,
        "memory_percent_count": 0,
        "disk_percent_count": 0,
        **columns,
    }
    await _insert(database, "fleet_metrics", row)


async def _insert(database: Database, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await execute(database, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())
