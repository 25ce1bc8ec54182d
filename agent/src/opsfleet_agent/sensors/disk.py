"""How full the disks are."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import psutil

TIMEOUT = 2.0


class DiskSensor:
    """The fullest of the file systems that hold `paths`, in percent.

    A network file system whose server is gone can block the question for ever. So a thread asks, and while it is stuck
    there is no value and no second thread. It is a daemon, so that it cannot keep the agent from stopping either.
    """

    def __init__(
        self, paths: Sequence[str], *, timeout: float = TIMEOUT, usage: Callable[[str], float | None] | None = None
    ) -> None:
        self._paths = paths
        self._timeout = timeout
        self._usage = usage or usage_percent
        self._asked: asyncio.Future[float | None] | None = None

    async def measure(self) -> float | None:
        """Return the percentage, or None when no path can be measured in time."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            threading.Thread(target=self._ask, args=(self._asked,), name="disks", daemon=True).start()
        asked = self._asked
        await asyncio.wait({asked}, timeout=self._timeout)
        if not asked.done():
            return None
        self._asked = None
        return asked.result()

    def _ask(self, asked: asyncio.Future[float | None]) -> None:
        found = [percent for path in self._paths if (percent := self._usage(path)) is not None]
        fullest = max(found, default=None)
        try:
            asked.get_loop().call_soon_threadsafe(_tell, asked, fullest)
        except RuntimeError:  # the agent stopped meanwhile
            return


def usage_percent(path: str) -> float | None:
    """Return how full the file system that holds `path` is for ordinary users, in percent; None if it is not known."""
    try:
        return float(psutil.disk_usage(path).percent)
    except (OSError, RuntimeError, ValueError):
        return None


def _tell(asked: asyncio.Future[float | None], percent: float | None) -> None:
    if not asked.done():
        asked.set_result(percent)
