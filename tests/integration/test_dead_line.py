"""What becomes of those who wait for a database on a line that is dead."""

import asyncio

import pytest

from opsfleet.store.database import Database
from tests.support.relay import Relay


async def test_who_is_told_to_stop_while_the_line_is_dead_does_not_take_it_for_an_absence(dsn: str) -> None:
    async with Relay(dsn) as relay:
        database = Database(relay.dsn, timeout=0.5)
        async with database.connection() as connection:
            await connection.fetchval("SELECT 1")
        asked = asyncio.Event()

        async def ask() -> None:
            async with database.connection() as connection:
                relay.freeze()
                asked.set()
                await connection.fetchval("SELECT 1")

        asking = asyncio.create_task(ask())
        await asked.wait()
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await relay.cut()
        await database.close()
