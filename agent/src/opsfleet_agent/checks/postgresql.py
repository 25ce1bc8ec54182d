"""Is PostgreSQL taking connections? Asked as `pg_isready` does, in the frontend protocol, without a driver.

A startup message goes to the server, and the first message of its answer tells: a request for authentication means
that it took the connection; an error's SQLSTATE says why it did not. Nobody signs in.
"""

import asyncio
import os
import struct

from opsfleet_agent.checks.component import ComponentCheck, ProtocolError, Talk
from opsfleet_agent.values import Address

# https://www.postgresql.org/docs/current/protocol-message-formats.html
PROTOCOL_3_0 = 196608
AUTHENTICATION = b"R"
ERROR = b"E"
TERMINATE = b"X\x00\x00\x00\x04"
MAX_MESSAGE_BYTES = 8 * 1024


def postgresql_check(address: Address, user: str) -> ComponentCheck:
    """Return the check of the PostgreSQL server at `address`, naming the role `user`."""
    if address.path is not None and os.path.basename(address.path).startswith(".s.PGSQL.") is False:
        address = Address(path=os.path.join(address.path, ".s.PGSQL.5432"))
    return ComponentCheck("database", address, talk_as(user))


def talk_as(user: str) -> Talk:
    """Return the conversation that tells whether a server takes connections, naming the role `user`."""
    fields = b"\x00".join((b"user", user.encode(), b"database", b"postgres", b"application_name", b"opsfleet-agent"))
    startup = struct.pack("!ii", len(fields) + 10, PROTOCOL_3_0) + fields + b"\x00\x00"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(startup)
        kind, length = struct.unpack("!ci", await reader.readexactly(5))
        if kind not in {AUTHENTICATION, ERROR} or not 4 <= length <= MAX_MESSAGE_BYTES:
            raise ProtocolError
        message = await reader.readexactly(length - 4)
        if kind == ERROR:
            return status_of(message)
        writer.write(TERMINATE)
        return "ok"

    return talk


def status_of(error: bytes) -> str:
    """Return the status that an ErrorResponse means.

    The codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. A server that refuses this role or
    database (classes 28 and 3D) takes connections of others, and is ok.
    """
    fields = {field[:1]: field[1:] for field in error.split(b"\x00") if field}
    code = fields.get(b"C", b"").decode("ascii", "replace")
    if code[:2] in {"28", "3D"}:
        return "ok"
    if code == "53300":
        return "too_many_connections"
    return "not_ready" if code.startswith("57P") else "error"
