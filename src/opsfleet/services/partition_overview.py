"""Which partitions there are, how large they are, and what happens to them next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from opsfleet.domain.partitions import Month, Part, months_to_keep_ready
from opsfleet.domain.retention import PartState, Retention, due, next_drops, state_of
from opsfleet.services.archive import Archive
from opsfleet.services.maintenance import PARTITIONED, missing_of
from opsfleet.store import partitions
from opsfleet.store.database import Database
from opsfleet.store.partitions import Extent, PartitionedTable


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """One partition that holds rows itself.

    `rows_estimate` is PostgreSQL's, of when it last looked, and null when it never did. `month` is `YYYY-MM` and, like
    `kept_until`, null for the default partition and for those made by others. `state` is one of `future`, `current`,
    `kept`, `due`, `not_rolled_up` (due, but still needed); of the default partition `empty` or `rows_waiting`; and
    `foreign` for what others made.
    """

    name: str
    table: str
    month: str | None
    period: str | None
    rows_estimate: int | None
    size_bytes: int
    state: str
    kept_until: datetime | None


@dataclass(frozen=True, slots=True)
class NextAction:
    """What maintenance will do, in words; `at` is null for what its next run does."""

    at: datetime | None
    action: str


@dataclass(frozen=True, slots=True)
class Overview:
    """All partitions by table and month, and the next actions, the soonest first."""

    partitions: list[PartitionRow]
    next_actions: list[NextAction]


class PartitionOverviewService:
    """Looks at the partitions and changes nothing."""

    def __init__(self, database: Database, retention: Retention, archive: Archive | None = None) -> None:
        self._database = database
        self._retention = retention
        self._archive = archive

    async def overview(self, now: datetime | None = None) -> Overview:
        """Return the partitions of all tables, and what is made and dropped next."""
        now = now or datetime.now(UTC)
        rows: list[PartitionRow] = []
        at_once: list[NextAction] = []
        parts: list[Part] = []
        async with self._database.connection() as connection:
            not_rolled_up = await partitions.months_to_roll_up(connection)
            for table in PARTITIONED:
                names = await partitions.existing(connection, table.name)
                strays = await partitions.stray_months(connection, table.name)
                needed = not_rolled_up if table.periods else set()
                mine = {part.name: part for part in table.leaves(names)}
                rows += [
                    self._row(table, extent, mine.get(extent.name), needed, bool(strays), now)
                    for extent in await partitions.extents(connection, table.name)
                ]
                parts += [part for part in mine.values() if part.month not in needed or part.month.end > now]
                at_once += _to_make(table, names, strays, now)
        order = {table.name: number for number, table in enumerate(PARTITIONED)}
        periods = {period: number for table in PARTITIONED for number, period in enumerate(table.periods)}
        rows.sort(key=lambda row: (order[row.table], row.month or "~", periods.get(row.period or "", 0), row.name))
        actions = [*at_once, *self._drops(parts, now), *_next_months(now)]
        return Overview(rows, sorted(actions, key=lambda action: action.at or now))

    def _row(
        self,
        table: PartitionedTable,
        extent: Extent,
        part: Part | None,
        needed: Iterable[Month],
        strays: bool,
        now: datetime,
    ) -> PartitionRow:
        if part is not None:
            found = state_of(part, self._retention, now)
            state = "not_rolled_up" if found is PartState.DUE and part.month in needed else found.value
        elif extent.name == f"{table.name}_default":
            state = "rows_waiting" if strays else "empty"
        else:
            state = "foreign"
        return PartitionRow(
            name=extent.name,
            table=table.name,
            month=str(part.month) if part else None,
            period=part.period if part else None,
            rows_estimate=extent.estimated_rows,
            size_bytes=extent.size_bytes,
            state=state,
            kept_until=self._retention.kept_until(part) if part else None,
        )

    def _drops(self, parts: Sequence[Part], now: datetime) -> list[NextAction]:
        now_due = due(parts, self._retention, now)
        later = next_drops([part for part in parts if part not in now_due], self._retention, now)
        return [
            *(NextAction(None, f"drop {part.name}{self._archived(part)}") for part in now_due),
            *(NextAction(moment, f"drop {part.name}{self._archived(part)}") for moment, part in later),
        ]

    def _archived(self, part: Part) -> str:
        if self._archive is None:
            return " (not archived: FLEET_ARCHIVE_DIR is not set)"
        return f", archived before to {self._archive.path(part)}"


def _to_make(table: PartitionedTable, names: set[str], strays: Sequence[Month], now: datetime) -> list[NextAction]:
    actions = []
    for month in sorted({*months_to_keep_ready(now), *strays}):
        move = f" and move the rows of {month} out of {table.name}_default" if month in strays else ""
        actions += [NextAction(None, f"make {name}{move}") for name in missing_of(table, month, names)]
    return actions


def _next_months(now: datetime) -> list[NextAction]:
    at = Month.of(now).end
    names = ", ".join(months_to_keep_ready(at)[-1].partition(table.name) for table in PARTITIONED)
    return [NextAction(at, f"make {names}")]
