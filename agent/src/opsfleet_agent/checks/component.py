"""The check of one component: one conversation, within a time limit, with its latency."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from opsfleet_agent.checks.address import connect, word_for
from opsfleet_agent.log import logger
from opsfleet_agent.values import Address
from opsfleet_agent.wire import ComponentHealth

TIMEOUT = 2.0

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[str]]


class ProtocolError(ValueError):
    """The other side does not speak the protocol that was expected."""


class ComponentCheck:
    """Connects to `address`, lets `talk` find out the status, and closes the connection.

    The latency, in milliseconds, is that of a whole conversation, and is given for a component that is ok.
    """

    def __init__(self, name: str, address: Address, talk: Talk, timeout: float = TIMEOUT) -> None:
        self._name = name
        self._address = address
        self._talk = talk
        self._timeout = timeout
        self._status = "ok"

    async def check(self) -> ComponentHealth:
        """Return what was found; nothing is raised, whatever the component does."""
        started = perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                status = await self._converse()
        except (OSError, EOFError, ValueError) as error:
            status = word_for(error)
        latency = (perf_counter() - started) * 1000
        if status != self._status:
            logger.warning("%s is %s, it was %s", self._name, status, self._status)
            self._status = status
        return ComponentHealth(status=status, latency_ms=round(latency, 2) if status == "ok" else None)

    async def _converse(self) -> str:
        reader, writer = await connect(self._address)
        try:
            return await self._talk(reader, writer)
        finally:
            # Not waited for: nothing is left to be sent that matters, and a component may never close its side.
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()
