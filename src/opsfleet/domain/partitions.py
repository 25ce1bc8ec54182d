"""Monthly partitions: their names and bounds, by UTC month."""

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

    def partition(self, table: str) -> str:
        """Return the name of the partition of `table` for this month."""
        return f"{table}_{self.year:04d}_{self.number:02d}"


def months_to_keep_ready(now: datetime) -> list[Month]:
    """Return the current month and the next two."""
    months = [Month.of(now)]
    for _ in range(MONTHS_AHEAD):
        months.append(months[-1].next())
    return months
