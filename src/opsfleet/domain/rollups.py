"""Which buckets of metrics have to be rolled up, and when."""

from datetime import datetime, timedelta
from typing import NamedTuple

from opsfleet.domain.metrics import Period

GRACE = timedelta(seconds=45)
"""How long after its end a bucket waits for rows: a cycle takes up to half a minute, and a request its timeout."""


class Note(NamedTuple):
    """That the bucket of `period` that begins at `bucket` (UTC) has rows which its roll-up does not know yet."""

    period: Period
    bucket: datetime
    noted_at: datetime

    @property
    def end(self) -> datetime:
        """The first moment after the bucket."""
        return self.bucket + self.period.length

    @property
    def due_at(self) -> datetime:
        """When the bucket is to be rolled up.

        Minutes and five minutes wait until they are complete. A quarter follows each of its five minutes at once, an
        hour each of its quarters and a day each of its hours, so that they exist soon and grow; not more often, for
        each time their rows of all servers are written anew.
        """
        finer = self.period.finer
        if self.period is Period.QUARTER:
            return self.noted_at
        if finer is None or self.period is Period.FIVE_MINUTES:
            return self.end + GRACE
        return min(self.end, finer.start_of(self.noted_at) + finer.length) + GRACE

    @property
    def turn(self) -> tuple[datetime, timedelta]:
        """What notes are worked off in the order of: what ended first is first, the finer before the coarser.

        So a bucket that catches up is rolled up after all that it is made of, and once.
        """
        return self.end, self.period.length

    @property
    def name(self) -> str:
        """What people call the bucket."""
        return f"{self.period.value} from {self.bucket:%Y-%m-%d %H:%M} UTC"
