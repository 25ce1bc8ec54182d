"""Series of one server's metrics."""

from datetime import datetime
from typing import Any
from uuid import UUID

from opsfleet.domain.metrics import Period
from opsfleet.domain.series import PERCENTAGES
from opsfleet.store.database import Connection
from opsfleet.store.metrics import HOUR_OF_ROW, TABLE

ROWS_AT_ONCE = 500
"""So many rows are taken from the driver at a time: whatever else runs on the loop comes in between."""

# A row of one sample has no maxima of its own: the value is its maximum.
_PERCENTAGES = ", ".join(
    f"round({name}::numeric, 2)::float8, round(coalesce({name}_max, {name})::numeric, 2)::float8"
    for name in PERCENTAGES
)
_VALUES = f"""
    {_PERCENTAGES}, network_rx_bytes, network_tx_bytes, llm_requests, llm_cost_usd::float8,
    active_services, failed_services, total_services, active_users, total_users, sample_count
"""


async def select(
    connection: Connection, organization_id: UUID, server_id: UUID, period: Period, *, start: datetime, end: datetime
) -> list[tuple[Any, ...]]:
    """Return the rows of `period` with timestamps in `[start, end)` of one server of the organization, oldest first.

    Each is the start of its bucket and the values of `domain.series.COLUMNS`: percentages, counters' increases, gauges,
    the number of samples. The caller must be in a transaction.
    """
    return await fetch_in_parts(connection, query_of(period), organization_id, server_id, start, end)


def query_of(period: Period) -> str:
    """Return the query of one server's rows; its values are organization, server, start and end."""
    hours = hours_of("$3", "$4") if period is Period.MINUTE else ""
    return f"""
        SELECT timestamp, {_VALUES} FROM {TABLE}
        WHERE period = '{period.value}'
            AND server_id = (SELECT id FROM managed_servers WHERE organization_id = $1::uuid AND id = $2::uuid)
            AND timestamp >= $3::timestamptz AND timestamp < $4::timestamptz {hours}
        ORDER BY timestamp
    """


def hours_of(start: str, end: str) -> str:
    """Return the condition by which the minutes of a range are found in their index; `start` and `end` are SQL."""
    first, last = (HOUR_OF_ROW.replace("timestamp,", f"{moment}::timestamptz,") for moment in (start, end))
    return f"AND {HOUR_OF_ROW} >= {first} AND {HOUR_OF_ROW} <= {last}"


async def fetch_in_parts(connection: Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query, taken from the driver a part at a time; needs a transaction."""
    cursor = await connection.cursor(query, *values)
    found: list[tuple[Any, ...]] = []
    while part := await cursor.fetch(ROWS_AT_ONCE):
        found += map(tuple, part)
    return found
