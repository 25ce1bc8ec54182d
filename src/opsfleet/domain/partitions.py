"""Monthly partitions: their names and bounds, by UTC month."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

MONTHS_AHEAD = 2


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """One UTC month."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: datetime) -> "Month":
        """Return the UTC month that `moment` (aware) lies in."""
        utc = moment.astimezone(UTC)
        return cls(utc.year, utc.month)

    def next(self) -> "Month":
        """Return the month after this one."""
        return Month(self.year + 1, 1) if self.number == 12 else Month(self.year, self.number + 1)

    @property
    def start(self) -> datetime:
        """The first moment of the month."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after the month."""
        return self.next().start

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    def partition(self, table: str) -> str:
        """Return the name of the partition of `table` for this month."""
        return f"{table}_{self.year:04d}_{self.number:02d}"


@dataclass(frozen=True, slots=True)
class Part:
    """What can be dropped by itself: a table's month or, when the table has periods, one period of a month."""

    table: str
    month: Month
    period: str | None = None

    @property
    def name(self) -> str:
        """The name of the partition."""
        name = self.month.partition(self.table)
        return f"{name}_{self.period}" if self.period else name

    @classmethod
    def parse(cls, table: str, name: str) -> "Part | None":
        """Return what the partition `name` of `table` holds; None for the default one and those made by others."""
        found = _NAME.fullmatch(name.removeprefix(table)) if name.startswith(table) else None
        return cls(table, Month(int(found[1]), int(found[2])), found[3]) if found else None


_NAME = re.compile(r"_([0-9]{4})_(0[1-9]|1[0-2])(?:_([0-9a-z]+))?")


def months_to_keep_ready(now: datetime) -> list[Month]:
    """Return the current month and the next two."""
    months = [Month.of(now)]
    for _ in range(MONTHS_AHEAD):
        months.append(months[-1].next())
    return months
