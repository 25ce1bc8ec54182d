"""Connecting to a component, and the words for why that failed."""

import asyncio
import errno

from opsfleet_agent.values import Address

READ_LIMIT = 16 * 1024


async def connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to `address`; raises `OSError`."""
    if address.path is not None:
        return await asyncio.open_unix_connection(address.path, limit=READ_LIMIT)
    return await asyncio.open_connection(address.host, address.port, limit=READ_LIMIT)


def word_for(error: BaseException) -> str:
    """Return the word that a component's status says about `error`."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "refused"
    if isinstance(error, ConnectionError | EOFError):
        return "closed"
    if isinstance(error, PermissionError):
        return "forbidden"
    if isinstance(error, OSError) and error.errno in {errno.EAGAIN, errno.ENOBUFS}:
        return "busy"
    return "unreachable" if isinstance(error, OSError) else "protocol_error"
