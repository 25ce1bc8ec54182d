"""Series of many servers' metrics together.

By region and environment they come from the roll-up of whole organizations, which is small. By group or tag, or of some
servers only, they come from the rows of those servers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from opsfleet.domain.metrics import Period
from opsfleet.domain.series import GAUGES, PERCENTAGES, GroupBy
from opsfleet.store.database import Connection
from opsfleet.store.metrics import TABLE
from opsfleet.store.series import fetch_in_parts, hours_of

_SUMMED = ("network_rx_bytes", "network_tx_bytes", "llm_requests")

_KEYS = {
    GroupBy.NONE: "''",
    GroupBy.REGION: "coalesce({table}.region, '')",
    GroupBy.ENVIRONMENT: "coalesce({table}.environment, '')",
    GroupBy.GROUP: "members.group_id::text",
    GroupBy.TAG: "tag.name",
}


@dataclass(frozen=True, slots=True)
class FleetFilter:
    """Which servers of an organization; an empty part does not restrict. `tags` must all be there."""

    region: Sequence[str] = ()
    environment: Sequence[str] = ()
    tags: Sequence[str] = ()
    group_id: UUID | None = None

    @property
    def is_rolled_up(self) -> bool:
        """Whether the roll-up of whole organizations can tell these servers from others."""
        return not self.tags and self.group_id is None


@dataclass(frozen=True, slots=True)
class Width:
    """How many series there are, and how many stored rows stand for one bucket of all of them together."""

    series: int
    rows_per_bucket: int


def from_rollup(group_by: GroupBy, wanted: FleetFilter) -> bool:
    """Say whether the roll-up of whole organizations has the answer."""
    return group_by in {GroupBy.NONE, GroupBy.REGION, GroupBy.ENVIRONMENT} and wanted.is_rolled_up


async def width(connection: Connection, organization_id: UUID, group_by: GroupBy, wanted: FleetFilter) -> Width:
    """Return how wide the answer is, going by the servers that there are now."""
    if from_rollup(group_by, wanted):
        values: list[Any] = [organization_id]
        key = _KEYS[group_by].format(table="servers")
        found = f"""
            SELECT DISTINCT {key} AS key, servers.region, servers.environment
            FROM managed_servers AS servers WHERE {_restriction("servers", wanted, values)}
        """
    else:
        found, values = _members(organization_id, group_by, wanted)
    row = await connection.fetchrow(
        f"SELECT count(DISTINCT key) AS series, count(*) AS rows FROM ({found}) AS found", *values
    )
    assert row is not None
    return Width(row["series"], row["rows"])


async def select(
    connection: Connection,
    organization_id: UUID,
    group_by: GroupBy,
    wanted: FleetFilter,
    period: Period,
    *,
    start: datetime,
    end: datetime,
) -> dict[str, list[tuple[Any, ...]]]:
    """Return for each key the rows of `period` with timestamps in `[start, end)`, oldest first.

    Each row is the start of its bucket and the values of `domain.series.FLEET_COLUMNS`. The key is a region, an
    environment, a tag, the id of a group, or empty: for everything, or for servers without region or environment. The
    caller must be in a transaction.
    """
    make = _of_organization if from_rollup(group_by, wanted) else _of_servers
    query, values = make(organization_id, group_by, wanted, period, start, end)
    found: dict[str, list[tuple[Any, ...]]] = {}
    for key, *row in await fetch_in_parts(connection, query, *values):
        found.setdefault(key, []).append(tuple(row))
    return found


async def group_names(connection: Connection, organization_id: UUID) -> dict[str, str]:
    """Return the names of the organization's groups by their ids."""
    rows = await connection.fetch(
        "SELECT id::text AS id, name FROM server_groups WHERE organization_id = $1", organization_id
    )
    return {row["id"]: row["name"] for row in rows}


def _of_organization(
    organization_id: UUID, group_by: GroupBy, wanted: FleetFilter, period: Period, start: datetime, end: datetime
) -> tuple[str, list[Any]]:
    values: list[Any] = [organization_id]
    restriction = _restriction("rows", wanted, values)
    values += [start, end]
    percentages = ", ".join(
        f"round((sum({name}_sum) / nullif(sum({name}_count), 0))::numeric, 2)::float8, "
        f"round(max({name}_max)::numeric, 2)::float8"
        for name in PERCENTAGES
    )
    return (
        f"""
        SELECT {_KEYS[group_by].format(table="rows")} AS key, timestamp, {percentages},
            {_sums(_SUMMED)}, sum(llm_cost_usd)::float8, {_sums((*GAUGES, "sample_count", "servers"))}
        FROM fleet_metrics AS rows
        WHERE period = '{period.value}' AND {restriction}
            AND timestamp >= ${len(values) - 1}::timestamptz AND timestamp < ${len(values)}::timestamptz
        GROUP BY key, timestamp ORDER BY key, timestamp
        """,
        values,
    )


def _of_servers(
    organization_id: UUID, group_by: GroupBy, wanted: FleetFilter, period: Period, start: datetime, end: datetime
) -> tuple[str, list[Any]]:
    members, values = _members(organization_id, group_by, wanted)
    values += [start, end]
    since, until = f"${len(values) - 1}", f"${len(values)}"
    percentages = ", ".join(
        f"round(avg({name})::numeric, 2)::float8, round(max(coalesce({name}_max, {name}))::numeric, 2)::float8"
        for name in PERCENTAGES
    )
    hours = hours_of(since, until) if period is Period.MINUTE else ""
    # OFFSET keeps the planner from joining otherwise than server by server, each by the index: it takes the servers for
    # a hundred times as many as they are, since it cannot know how many tags one has, and would read a whole month.
    return (
        f"""
        SELECT members.key, timestamp, {percentages},
            {_sums(_SUMMED)}, sum(llm_cost_usd)::float8, {_sums((*GAUGES, "sample_count"))}, count(*)
        FROM ({members}) AS members
        CROSS JOIN LATERAL (
            SELECT * FROM {TABLE}
            WHERE server_id = members.server_id AND period = '{period.value}'
                AND timestamp >= {since}::timestamptz AND timestamp < {until}::timestamptz {hours}
            OFFSET 0
        ) AS rows
        GROUP BY members.key, timestamp ORDER BY members.key, timestamp
        """,
        values,
    )


def _members(organization_id: UUID, group_by: GroupBy, wanted: FleetFilter) -> tuple[str, list[Any]]:
    """Return the query of the servers under each key, and its values."""
    values: list[Any] = [organization_id]
    sources = "managed_servers AS servers"
    if group_by is GroupBy.TAG:
        sources += ", jsonb_array_elements_text(servers.tags) AS tag (name)"
    elif group_by is GroupBy.GROUP:
        sources += f" JOIN ({_GROUPS}) AS members ON members.server_id = servers.id"
    restriction = _restriction("servers", wanted, values)
    if wanted.tags:
        values.append(list(wanted.tags))
        restriction += f" AND servers.tags @> ${len(values)}::jsonb"
    if wanted.group_id is not None:
        values.append(wanted.group_id)
        restriction += (
            f" AND servers.id IN (SELECT chosen.server_id FROM ({_GROUPS}) AS chosen "
            f"WHERE chosen.group_id = ${len(values)}::uuid)"
        )
    key = _KEYS[group_by].format(table="servers")
    return f"SELECT DISTINCT {key} AS key, servers.id AS server_id FROM {sources} WHERE {restriction}", values


# Both a group and its members must be the organization's.
_GROUPS = """
    SELECT found.group_id, found.server_id FROM v_server_group_members AS found
    JOIN server_groups ON server_groups.id = found.group_id AND server_groups.organization_id = $1::uuid
    WHERE found.organization_id = $1::uuid
"""


def _restriction(table: str, wanted: FleetFilter, values: list[Any]) -> str:
    """Return the condition that both ways have, and add its values; the first value is the organization."""
    parts = [f"{table}.organization_id = $1::uuid"]
    for column in ("region", "environment"):
        accepted = getattr(wanted, column)
        if accepted:
            values.append(list(accepted))
            parts.append(f"coalesce({table}.{column}, '') = ANY(${len(values)}::text[])")
    return " AND ".join(parts)


def _sums(names: Sequence[str]) -> str:
    """Return the sums of whole numbers, at most the largest that travels."""
    return ", ".join(f"least(sum({name}), 9223372036854775807)::bigint" for name in names)
