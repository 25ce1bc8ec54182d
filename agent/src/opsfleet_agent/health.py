"""The health document: what `GET /health` answers."""

import asyncio
import socket
import time
from typing import TypeVar

from opsfleet_agent.cached import Cached
from opsfleet_agent.components import Components
from opsfleet_agent.wire import Health

Value = TypeVar("Value")


class HealthReporter:
    """Puts the health document together; all components are checked at the same time."""

    def __init__(self, components: Components, version: str) -> None:
        self._components = components
        self._version = version

    async def report(self) -> Health:
        """Return the document of now. Its top-level status is the worst that the components mean."""
        database, redis, services = await asyncio.gather(
            _ask(self._components.database), _ask(self._components.redis), _ask(self._components.services)
        )
        status = "ok"
        if services is not None and not services.healthy:
            status = "degraded"
        if any(component is not None and component.status != "ok" for component in (database, redis)):
            status = "critical"
        return Health(
            status=status,
            version=self._version,
            hostname=socket.gethostname(),
            uptime_seconds=round(time.clock_gettime(time.CLOCK_BOOTTIME), 1),
            database=database,
            redis=redis,
            services=services,
        )


async def _ask(component: Cached[Value] | None) -> Value | None:
    return None if component is None else await component.get()
