import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from opsfleet_agent.http.gate import Gate
from opsfleet_agent.http.limits import Limits
from opsfleet_agent.http.listener import Listener
from opsfleet_agent.http.messages import Request, Response
from opsfleet_agent.tokens import AcceptedTokens

TOKEN = "right-token"


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Caller:
    """A caller that says exactly what a test wants said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)

    def ask(self, path: str, method: str = "GET", token: str | None = TOKEN, extra: str = "", body: str = "") -> None:
        authorization = f"Authorization: Bearer {token}\r\n" if token is not None else ""
        self.send(f"{method} {path} HTTP/1.1\r\nHost: agent\r\n{authorization}{extra}\r\n{body}")

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def is_closed(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


class Running:
    """A listener on a port of its own, with callers to it."""

    def __init__(self, listener: Listener, port: int, trust: ssl.SSLContext | None) -> None:
        self.listener = listener
        self.port = port
        self.trust = trust
        self._writers: list[asyncio.StreamWriter] = []

    async def call(self) -> Caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust)
        self._writers.append(writer)
        return Caller(reader, writer)

    async def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.listener.stop()


Answering = Callable[[Request], Awaitable[Response]]
Listening = Callable[..., Awaitable[Running]]


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    """Starts a listener with the answering function and the limits that a test wants."""
    running: list[Running] = []

    async def start(
        answer: Answering,
        context: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | None = None,
        **limits: Any,
    ) -> Running:
        gate = Gate(AcceptedTokens(hashlib.sha256(TOKEN.encode()).hexdigest()))
        listener = Listener(gate, answer, limits=Limits(**limits), context=context)
        running.append(Running(listener, await listener.start("127.0.0.1", 0), trust))
        return running[-1]

    yield start
    for each in running:
        await each.end()
