"""However the network cuts an answer into pieces, it comes to the same."""

import asyncio
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsfleet.polling import Fault
from opsfleet.polling.connection import Connection
from tests.support import rogue

CHUNKED = rogue.answer(
    b"6\r\n" + rogue.OK_BODY[:6] + b"\r\n9;x=y\r\n" + rogue.OK_BODY[6:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "200 OK",
    "Transfer-Encoding: chunked",
    length=None,
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
STREAMS = {
    "whole": rogue.answer(),
    "chunked": CHUNKED,
    "interim": INTERIM + rogue.answer(),
    "interim, cut": INTERIM + rogue.answer(length=100),
    "interim, until the end": INTERIM + rogue.answer(length=None),
    "until the end": rogue.answer(length=None),
    "HTTP/1.0": rogue.answer(version="1.0"),
    "204": rogue.answer(b"", "204 No Content", length=None),
    "cut": rogue.answer(length=100),
    "chunked, cut": CHUNKED[:-9],
    "chunked, broken": rogue.answer(b"zz\r\n{}", "200 OK", "Transfer-Encoding: chunked", length=None),
    "too small": rogue.answer(length=5),
    "two answers": rogue.answer() + rogue.answer(b"{}", "500 Internal Server Error"),
    "banner": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nmore",
    "a header in the body": rogue.answer(b"a\r\nContent-Length: 9\r\n\r\nb", length=None),
    "nothing": b"",
}


class Wire:
    """The transport and the owner of one connection; ends of requests are kept in `ends`."""

    def __init__(self) -> None:
        self.ends: list[tuple[object, ...]] = []
        self.losses = 0
        self.closing = False
        self.connection = Connection(self)
        self.connection.connection_made(cast("asyncio.Transport", self))

    # transport

    def write(self, data: bytes) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    # owner

    def opened(self) -> None:
        pass

    def answered(self, connection: Connection) -> None:
        self.ends.append((connection.status, connection.take_body()))

    def failed(self, connection: Connection, fault: Fault, *, stale: bool) -> None:
        self.ends.append((fault.kind, fault.message, stale))

    def closed(self, connection: Connection) -> None:
        self.losses += 1

    # what the network does

    def receive(self, pieces: list[bytes]) -> tuple[object, ...]:
        """Send a request, receive the pieces and then the end of the connection; return the request's one end."""
        before = len(self.ends)
        self.connection.send(b"GET")
        for piece in pieces:
            if self.closing:
                break
            self.connection.data_received(piece)
        self.connection.connection_lost(None)
        assert len(self.ends) == before + 1
        assert self.losses == 1
        assert not self.connection.busy
        return self.ends[-1]


@st.composite
def _cuts(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    name = draw(st.sampled_from(sorted(STREAMS)))
    stream = STREAMS[name]
    places = sorted(draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=12)))
    borders = [0, *(place for place in places if place < len(stream)), len(stream)]
    return name, [stream[a:b] for a, b in pairwise(borders) if a < b]


@settings(max_examples=600, deadline=None)
@given(_cuts())
def test_an_answer_in_pieces_is_the_answer_in_one_piece(cut: tuple[str, list[bytes]]) -> None:
    name, pieces = cut
    whole = Wire().receive([STREAMS[name]] if STREAMS[name] else [])
    assert Wire().receive(pieces) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_an_answer_byte_by_byte(name: str) -> None:
    stream = STREAMS[name]
    whole = Wire().receive([stream] if stream else [])
    assert Wire().receive([bytes([byte]) for byte in stream]) == whole


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 60))
def test_garbage_ends_a_request_once(garbage: bytes, kept: int) -> None:
    Wire().receive([piece for piece in (rogue.answer()[:kept], garbage) if piece])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"", b"\r\n", b"H", b"HTTP/1.1 200 OK\r\n", b"{}"]), min_size=1, max_size=3))
def test_what_comes_between_two_polls_gets_into_neither(extra: list[bytes]) -> None:
    wire = Wire()
    wire.connection.send(b"GET")
    wire.connection.data_received(rogue.answer() + b"".join(extra))
    assert wire.ends == [(200, rogue.OK_BODY)]
    if not wire.closing:
        assert wire.connection.reusable
        wire.connection.send(b"GET")
        wire.connection.data_received(rogue.answer(b"{}"))
        assert wire.ends[1:] == [(200, b"{}")]
