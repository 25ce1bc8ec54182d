"""Does Redis answer? PING in RESP, after AUTH when there is a password.

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/.
"""

import asyncio

from opsfleet_agent.checks.component import ComponentCheck, ProtocolError, Talk
from opsfleet_agent.config import ConfigError, read_secret
from opsfleet_agent.values import Address

WORDS = {
    b"NOAUTH": "password_required",
    b"WRONGPASS": "wrong_password",
    b"NOPERM": "forbidden",
    b"LOADING": "loading",
    b"MASTERDOWN": "not_ready",
    b"BUSY": "busy",
}


def redis_check(address: Address, user: str | None, password_file: str | None) -> ComponentCheck:
    """Return the check of the Redis server at `address`. The password is read anew each time, for it may change."""
    return ComponentCheck("redis", address, talk_as(user, password_file))


def talk_as(user: str | None, password_file: str | None) -> Talk:
    """Return the conversation that tells whether a server answers to `user` with the password in `password_file`."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        if password_file is not None:
            try:
                password = read_secret("redis_password_file", password_file)
            except ConfigError:
                return "password_unreadable"
            writer.write(command("AUTH", *([user] if user else []), password))
            refusal = status_of(await reader.readline(), expected=b"+OK")
            if refusal != "ok":
                return refusal
        writer.write(command("PING"))
        return status_of(await reader.readline(), expected=b"+PONG")

    return talk


def command(*words: str) -> bytes:
    """Return a command as RESP: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        encoded = word.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(encoded), encoded))
    return b"".join(parts)


def status_of(line: bytes, *, expected: bytes) -> str:
    """Return the status that the answer `line` means, when `expected` is the good one."""
    if not line.endswith(b"\r\n"):
        raise EOFError if not line else ProtocolError
    answer = line[:-2]
    if answer == expected:
        return "ok"
    if not answer.startswith(b"-"):
        raise ProtocolError
    if b"max number of clients" in answer:
        return "too_many_connections"
    return WORDS.get(answer[1:].partition(b" ")[0], "error")
